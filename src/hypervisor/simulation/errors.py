"""The exceptions of the simulator."""

from __future__ import annotations


class WorkloadError(Exception):
    """An invalid file or specification. The message is one line, with file and line number."""


class SimulationError(Exception):
    """The plan violates an invariant, such as the capacity of a node. This is a defect, not a result."""
