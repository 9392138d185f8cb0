"""The pure core: `plan(snapshot, policy) -> Plan` makes all scheduling decisions.

No I/O, no clock, no randomness: the same snapshot gives the same plan, bit for bit. NumPy is allowed;
asyncio, the database and pydantic are not (import-linter checks it). `now` is part of the snapshot.
"""
