"""Whole installations in virtual time: the real loops and services, a real SQLite file, a simulated engine.

One number decides everything that happens in a history: what people ask for and when, which faults strike and
at which step a server dies. `python -m tests.simulation --seed N -v` replays one.
"""
