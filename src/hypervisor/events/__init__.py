"""Events: rows written in the caller's transaction, and their relay to live listeners.

A change and its event are one commit. Listeners receive the rows after the commit. A lost hint costs only
time, because the relay also polls.
"""
