"""Adapters to the world that know no domain: the clock, hashing, tokens, sealing, hints, limits, logs.

Nothing here imports tables or routes; each module is one concept behind a few public names.
"""
