"""The admission check: jobs that can never run are rejected, and jobs larger than a node are split."""

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
_CACHE_SIZE = 4096


class AdmissionCheck:
    """Checks each job by its shape against the empty cluster, like the server at a submission.

    A divisible job with more GPUs than any node is split into equal replicas. The preferred replica size is
    the largest GPU count of a node that divides the job; without one, the largest divisor that fits on a
    node. The empty cluster must have capacity for all replicas.
    """

    def __init__(self, nodes: NodeTable) -> None:
        self._nodes = nodes
        self._eligibility = Eligibility(nodes)
        self._cached_check = lru_cache(_CACHE_SIZE)(self._check)

    def check(self, job: Job) -> Rejection | Split | None:
        """A rejection, or a split; None for a job that is admitted unchanged."""
        return self._cached_check(job.shape, job.replicas, job.divisible)

    def _check(self, shape: Shape, replicas: int, divisible: bool) -> Rejection | Split | None:
        reason = infeasibility(self._nodes, self._eligibility, shape, replicas)
        if reason is None:
            return None
        if (
            replicas > 1
            or reason.code is not ReasonCode.LARGER_THAN_EVERY_NODE
            or not self._fits_on_several_nodes(shape)
        ):
            return Rejection(reason.code.value, reason.sentence)
        split = next(self._splits(shape), None) if divisible else None
        return split or self._needs_gang(shape, divisible)

    def _splits(self, shape: Shape) -> Iterator[Split]:
        """The splits that fit on the empty cluster, the preferred one first."""
        node_sizes = {int(count) for count in self._gpu_counts(shape)}
        divisors = [size for size in range(1, max(node_sizes) + 1) if shape.gpu_device_count % size == 0]
        for size in sorted(divisors, key=lambda size: (size in node_sizes, size), reverse=True):
            split = Split(shape.gpu_device_count, shape.gpu_device_count // size, size, size in node_sizes)
            replica = split.replica_shape(shape)
            fits = infeasibility(self._nodes, self._eligibility, replica, split.replicas) is None
            if fits and split.replicas <= MOST_REPLICAS:
                yield split

    def _fits_on_several_nodes(self, shape: Shape) -> bool:
        counts = self._gpu_counts(shape)
        too_large = shape.gpu_milli >= WHOLE_GPU and shape.gpu_device_count > int(counts.max(initial=0))
        return bool(too_large and shape.gpu_device_count <= int(counts.sum()))

    def _gpu_counts(self, shape: Shape) -> Int32:
        """GPUs per eligible node."""
        counts: Int32 = self._nodes.gpu_count[self._eligibility.matching(shape)]
        return counts

    @staticmethod
    def _needs_gang(shape: Shape, divisible: bool) -> Rejection:
        request = f"requests {shape.gpu_device_count} GPUs, more than one node has"
        if divisible:
            return Rejection(
                NEEDS_GANGS, f"{request}; it cannot be split into 2 to {MOST_REPLICAS} equal replicas"
            )
        return Rejection(NEEDS_GANGS, f"{request}; set the number of replicas")
