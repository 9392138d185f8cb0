"""Adapters without domain rules: clock, disk, memory, rate limits, security, coordination, observability.

Nothing here imports tables or routes. Each module holds one concept behind a few public names.
"""
