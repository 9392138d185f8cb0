"""One `Runtime` protocol, and one package for each implementation of it.

A runtime starts, observes, stops and removes instances by their deterministic name. It does not depend on
deployments, queues or the database.
"""
