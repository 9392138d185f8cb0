"""What can be wrong with what a simulation was given, or with what it found."""

from __future__ import annotations


class WorkloadError(Exception):
    """A file or a specification that cannot be read; the message is one line, with file and line number."""


class SimulationError(Exception):
    """The simulated scheduler broke a promise, such as a node's capacity: a defect, not a result."""
