"""The workloads of the demo: plain programs, started by path, configured by environment variables."""
