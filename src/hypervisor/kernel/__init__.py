"""Value types shared by every room: resources, priority, names, the clock. Standard library only, no I/O."""
