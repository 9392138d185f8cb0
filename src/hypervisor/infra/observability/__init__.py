"""Observability of a process: logs, metrics, traces and heartbeats of the loops."""
