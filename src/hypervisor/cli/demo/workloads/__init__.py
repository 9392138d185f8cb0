"""What the demo runs on its cluster: plain programs, started by path, configured by their environment."""
