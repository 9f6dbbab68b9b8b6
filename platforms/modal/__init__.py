"""Jobs on Modal: one app over the same runner and the same job API."""
