"""What is free: the mutable copy of a snapshot's capacity, and whether a request fits on one node or many."""
