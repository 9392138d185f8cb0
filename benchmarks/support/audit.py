"""Faults of the scheduler, found by brute force and independently of the scheduler's code."""

from __future__ import annotations

from collections import Counter

from benchmarks.support.virtual_cluster import STOP, Job, Node, Running, VirtualCluster, fits, free_on
from hypervisor.scheduling.plan_result import Eviction, Placement, Plan
from hypervisor.scheduling.snapshots.snapshot import Nomination, Shape


class Audit:
    """The faults of one virtual cluster.

    `counts` has `evictions` (all), `in_flight`, and the faults of `FAULTS`. A waiting period of a job lasts
    from its arrival or eviction to its start. `in_flight` counts evictions after the last arrival by
    preemptors without an earlier eviction in their present waiting period. A job that loses its nomination to
    a job of a higher rank starts a new waiting period.
    """

    FAULTS = ("preemptions_after_stop", "useless_evictions", "illegal_evictions", "inversions", "overcommits")

    def __init__(self, world: VirtualCluster) -> None:
        self._world = world
        self._has_preempted: set[int] = set()
        self.counts: Counter[str] = Counter()

    @property
    def faults(self) -> int:
        return sum(self.counts[name] for name in self.FAULTS)

    def before(self, decided: Plan) -> None:
        """Check a plan before it is applied."""
        self._has_preempted -= self._overridden(decided)
        batch: dict[int, list[Eviction]] = {}
        for eviction in decided.evictions:
            batch.setdefault(eviction.preemptor_id, []).append(eviction)
            self._check_victim(eviction)
        for preemptor, evictions in batch.items():
            self.counts["evictions"] += len(evictions)
            if self._world.now >= STOP and not self._world.arriving:
                again = preemptor in self._has_preempted
                self.counts["preemptions_after_stop" if again else "in_flight"] += len(evictions)
            self._has_preempted.add(preemptor)
        self.counts["useless_evictions"] += sum(
            self._spares_one(node, decided) for node in self._world.nodes if decided.evictions
        )
        self._has_preempted -= {placement.deployment_id for placement in decided.placements}

    def after(self) -> None:
        """Check the state after a plan was applied."""
        world = self._world
        for node in world.nodes:
            cpu, ram, gpu = free_on(node, world.running.values())
            self.counts["overcommits"] += min(cpu, ram, *gpu) < 0
        self.counts["inversions"] += len(inversions(world))

    def at_rest(self) -> None:
        """Check the final state: every preemptor must be running."""
        self.counts["useless_evictions"] += len(self._has_preempted & set(self._world.waiting))

    def _overridden(self, decided: Plan) -> set[int]:
        """Deployments that lose a nomination because a job of a higher rank gets the node."""
        waiting = self._world.waiting
        lost = set(self._world.nominations).difference(decided.nominations)
        coming: list[Placement | Nomination] = [*decided.placements, *decided.nominations]
        return {
            old.deployment_id
            for old in lost
            for new in coming
            if new.node_id == old.node_id
            and waiting[new.deployment_id].rank < waiting[old.deployment_id].rank
        }

    def _check_victim(self, eviction: Eviction) -> None:
        victim = self._world.running[eviction.allocation_id]
        preemptor = self._world.waiting[eviction.preemptor_id]
        legal = victim.evictable(self._world.now) and victim.job.priority < preemptor.priority
        self.counts["illegal_evictions"] += not legal

    def _spares_one(self, node: Node, decided: Plan) -> bool:
        """Whether a victim on the node could have stayed, with all other evictions and starts of the plan."""
        world = self._world
        evicted = {eviction.allocation_id for eviction in decided.evictions}
        staying = [run for run in world.running.values() if not run.releasing and run.job.id not in evicted]
        chosen: list[Placement | Nomination] = [*decided.placements, *decided.nominations]
        coming = [
            (world.waiting[each.deployment_id].shape, each.gpu_indices)
            for each in chosen
            if each.node_id == node.id
        ]
        victims = [world.running[each] for each in evicted if world.running[each].node_id == node.id]
        return any(_room_for_all(node, [*staying, victim], coming) for victim in victims)


def inversions(world: VirtualCluster) -> list[int]:
    """Waiting jobs that could start after evictions of strictly lower priority on one node.

    Nominations of a higher rank hold their capacity. The head of the queue (the highest-ranked job without a
    nomination that fits on some empty node) may reserve one node against the jobs behind it, so their
    admission to one node, the same for all, does not count.
    """
    nominated = {nomination.deployment_id for nomination in world.nominations}
    blocked = sorted((job for job in world.waiting.values() if job.id not in nominated), key=_rank)
    head = next(
        (job for job in blocked if any(fits(job.shape, node, _empty(node)) for node in world.nodes)), None
    )
    admitting = {
        job.id: [node.id for node in world.nodes if _admissible(world, job, node)] for job in blocked
    }
    behind = [job.id for job in blocked if head is not None and job.rank > head.rank and admitting[job.id]]
    held = Counter(node for job in behind for node in admitting[job]).most_common(1)
    exempt = {job for job in behind if held and admitting[job] == [held[0][0]]}
    return [job for job, nodes in admitting.items() if nodes and job not in exempt]


def _admissible(world: VirtualCluster, job: Job, node: Node) -> bool:
    staying = [
        run
        for run in world.running.values()
        if not run.releasing and not (run.job.priority < job.priority and run.evictable(world.now))
    ]
    higher = [_claim(world, each) for each in world.nominations if _holds(world, each, node, job)]
    return fits(job.shape, node, free_on(node, staying, higher))


def _holds(world: VirtualCluster, nomination: Nomination, node: Node, job: Job) -> bool:
    return nomination.node_id == node.id and world.waiting[nomination.deployment_id].rank < job.rank


def _claim(world: VirtualCluster, nomination: Nomination) -> tuple[Shape, tuple[int, ...]]:
    return world.waiting[nomination.deployment_id].shape, nomination.gpu_indices


def _room_for_all(node: Node, running: list[Running], coming: list[tuple[Shape, tuple[int, ...]]]) -> bool:
    """Whether all fit with their devices; for a single job, with any devices of the node."""
    cpu, ram, gpu = free_on(node, running, coming)
    if min(cpu, ram, *gpu) >= 0:
        return True
    return len(coming) == 1 and fits(coming[0][0], node, free_on(node, running))


def _empty(node: Node) -> tuple[int, int, list[int]]:
    return node.cpu, node.ram, [1000] * node.gpus


def _rank(job: Job) -> tuple[int, float, int]:
    return job.rank
