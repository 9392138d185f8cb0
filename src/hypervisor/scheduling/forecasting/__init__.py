"""What will become of a deployment: the real `plan()` asked "what if", and played forward in virtual time."""
