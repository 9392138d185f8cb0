"""Adapters to the world that know no domain: clock, hashing, tokens, sealing, hints, limits, memory, logs,
metrics, traces.

Nothing here imports tables or routes; each module is one concept behind a few public names.
"""
