"""Requests that need the planner: forecasts, queue pages, fragmentation, moves, stored decisions.

This package calls `scheduling` on a snapshot for one request. It has no loops.
"""
