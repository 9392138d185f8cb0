"""What will become of a deployment: `plan()` on a changed snapshot, and simulated forward in time."""
