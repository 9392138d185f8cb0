"""Crash tests: real servers are killed, paused and disconnected from their database under real workloads.

A bounded part runs in the suite; `make chaos` runs everything. See docs/testing.md.
"""
