"""The order of the queue, its equivalence classes, and the usage of the organizations."""
