"""Whole installations in virtual time: the real loops and services, a real SQLite file, a simulated engine.

A seed determines a history: the requests and their times, the faults, and the step at which a server dies.
`python -m tests.simulation --seed N` replays one.
"""
