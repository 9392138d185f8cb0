"""Real servers that are killed, paused and cut off from their database while real processes run.

A bounded part is in the suite; `make chaos` does it all. See docs/testing.md.
"""
