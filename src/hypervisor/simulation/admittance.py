"""Which jobs can never run on the simulated nodes; they are refused on arrival, and counted."""

from __future__ import annotations

from functools import lru_cache

from hypervisor.kernel.resources import WHOLE_GPU
from hypervisor.scheduling.outcome import ReasonCode
from hypervisor.scheduling.refusal import refusal
from hypervisor.scheduling.requests import Eligibility
from hypervisor.scheduling.snapshot import NodeTable, Shape
from hypervisor.simulation.jobs import Job
from hypervisor.simulation.observer import Rejection

NEEDS_GANGS = "needs_gangs"
_REMEMBERED = 4096


class Admittance:
    """Judges each job by its shape; work over several nodes is refused, never split."""

    def __init__(self, nodes: NodeTable) -> None:
        self._nodes = nodes
        self._eligibility = Eligibility(nodes)
        self._of_shape = lru_cache(_REMEMBERED)(self._judge)

    def refusal(self, job: Job) -> Rejection | None:
        """Why it can never run, or None if an empty node could take it."""
        if job.replicas > 1:
            return Rejection(
                NEEDS_GANGS, f"asks for {job.replicas} replicas together; gangs are not simulated yet"
            )
        return self._of_shape(job.shape)

    def _judge(self, shape: Shape) -> Rejection | None:
        reason = refusal(self._nodes, self._eligibility, shape)
        if reason is None:
            return None
        if reason.code is ReasonCode.LARGER_THAN_EVERY_NODE and self._several_nodes_would_do(shape):
            return Rejection(
                NEEDS_GANGS,
                f"asks for {shape.gpu_devices} GPUs, more than one node has; gangs are not simulated yet",
            )
        return Rejection(reason.code.value, reason.sentence)

    def _several_nodes_would_do(self, shape: Shape) -> bool:
        counts = self._nodes.gpu_count[self._eligibility.matching(shape)]
        too_many = shape.gpu_milli >= WHOLE_GPU and shape.gpu_devices > int(counts.max(initial=0))
        return bool(too_many and shape.gpu_devices <= int(counts.sum()))
