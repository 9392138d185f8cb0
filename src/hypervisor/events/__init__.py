"""The history: event rows written in the caller's transaction, and their relay to live listeners.

A change and its event are one commit. Listeners get rows after the commit; a hint that is lost only costs
time, because the relay also polls.
"""
