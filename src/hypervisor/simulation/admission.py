"""Which jobs can never run on the simulated nodes, and which can only in replicas."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from hypervisor.kernel.resources import WHOLE_GPU
from hypervisor.scheduling.explanation.infeasibility import infeasibility
from hypervisor.scheduling.plan_result import ReasonCode
from hypervisor.scheduling.snapshots.requests import Eligibility
from hypervisor.scheduling.snapshots.snapshot import Int32, NodeTable, Shape
from hypervisor.simulation.jobs import MOST_REPLICAS, Job, Rejection, Split

NEEDS_GANGS = "needs_gangs"
_REMEMBERED = 4096


class AdmissionCheck:
    """Judges each job by its shape, as one that is submitted is judged by the server.

    Only what is divisible is split, where one node has too few GPUs: into equal replicas as large as nodes
    of the cluster are, the largest ones first; where no size of a node divides the job, into the largest
    equal replicas that some node can take. The empty cluster must have room for all of them.
    """

    def __init__(self, nodes: NodeTable) -> None:
        self._nodes = nodes
        self._eligibility = Eligibility(nodes)
        self._of_kind = lru_cache(_REMEMBERED)(self._judge)

    def check(self, job: Job) -> Rejection | Split | None:
        """Why it can never run, or how it is split; None if it runs as it is."""
        return self._of_kind(job.shape, job.replicas, job.divisible)

    def _judge(self, shape: Shape, replicas: int, divisible: bool) -> Rejection | Split | None:
        reason = infeasibility(self._nodes, self._eligibility, shape, replicas)
        if reason is None:
            return None
        if (
            replicas > 1
            or reason.code is not ReasonCode.LARGER_THAN_EVERY_NODE
            or not self._several_nodes_would_do(shape)
        ):
            return Rejection(reason.code.value, reason.sentence)
        found = next(self._splits(shape), None) if divisible else None
        return found or self._needs_gangs(shape, divisible)

    def _splits(self, shape: Shape) -> Iterator[Split]:
        """Those that the empty cluster could take, the preferred one first."""
        sizes = {int(count) for count in self._counts(shape)}
        divisors = [each for each in range(1, max(sizes) + 1) if shape.gpu_device_count % each == 0]
        for each in sorted(divisors, key=lambda each: (each in sizes, each), reverse=True):
            how = Split(shape.gpu_device_count, shape.gpu_device_count // each, each, each in sizes)
            part = how.replica_shape(shape)
            fits = infeasibility(self._nodes, self._eligibility, part, how.replicas) is None
            if fits and how.replicas <= MOST_REPLICAS:
                yield how

    def _several_nodes_would_do(self, shape: Shape) -> bool:
        counts = self._counts(shape)
        too_many = shape.gpu_milli >= WHOLE_GPU and shape.gpu_device_count > int(counts.max(initial=0))
        return bool(too_many and shape.gpu_device_count <= int(counts.sum()))

    def _counts(self, shape: Shape) -> Int32:
        """GPUs of each node that it may use."""
        counts: Int32 = self._nodes.gpu_count[self._eligibility.matching(shape)]
        return counts

    @staticmethod
    def _needs_gangs(shape: Shape, divisible: bool) -> Rejection:
        asks = f"asks for {shape.gpu_device_count} GPUs, more than one node has"
        if divisible:
            return Rejection(
                NEEDS_GANGS, f"{asks}; there is no way to split it into 2 to {MOST_REPLICAS} equal replicas"
            )
        return Rejection(NEEDS_GANGS, f"{asks}; say in how many replicas it may run")
