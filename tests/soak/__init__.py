"""A server under mixed load for as long as one likes: `make soak MINUTES=60`."""
