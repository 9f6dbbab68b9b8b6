"""One worker as an HTTP server: synchronous routes over a runner in this process."""
