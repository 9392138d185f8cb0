"""Two schedulers and two API servers under load, one of each killed repeatedly: `make replicas`.

`load` sends the requests, `scenario` kills the servers and evaluates the result.
"""
