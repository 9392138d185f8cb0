"""Requests that are answered by planning: forecasts, queue pages, fragmentation, stored decisions, moves.

Everything here calls `scheduling` on a snapshot. Nothing here runs in a loop.
"""
