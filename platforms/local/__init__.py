"""An endpoint and its workers on this machine."""
