"""Forecasts for a deployment: `plan()` on a changed snapshot, and simulated forward in time."""
