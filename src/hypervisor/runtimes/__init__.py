"""How workloads really run: one `Runtime` protocol and an adapter for each engine.

An adapter starts, observes, stops and removes instances by their deterministic name and knows nothing of
deployments, queues or the database.
"""
