"""A server under mixed load for a given time: `make soak MINUTES=60`."""
