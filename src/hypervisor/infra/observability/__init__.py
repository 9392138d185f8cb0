"""What a process tells about itself: logs, metrics, traces, and how long ago each loop got through a turn."""
