"""Value types that every package shares: resources, priority, names, clock. Standard library only, no I/O."""
