"""Requests that need the planner: forecasts, queue pages, fragmentation, moves, and stored decisions.

This room calls `scheduling` on a snapshot for one request. It has no loops.
"""
