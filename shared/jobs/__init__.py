"""The endpoint's HTTP API and the client that speaks to it."""
