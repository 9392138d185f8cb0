"""Random clusters of `tests.support.scheduling` with organizations on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from hypothesis import strategies as st

from hypervisor.kernel.resources import Resources
from hypervisor.scheduling.plan_result import Plan
from hypervisor.scheduling.queueing.quota_usage import QuotaUsage
from hypervisor.scheduling.snapshots.snapshot import Int32, Int64, Quota, Shape, Snapshot
from tests.support.scheduling import Pending, Running, World, after_victims_end, commit, gpu, gpu_node


@dataclass(frozen=True)
class Shared:
    """A world, its quotas (none: it is not shared), and the owner of each deployment by id."""

    world: World
    quotas: tuple[Quota, ...]
    owners: Mapping[int, int] = field(default_factory=dict)
    frozen: tuple[tuple[int, int], ...] = ()

    def snapshot(self) -> Snapshot:
        plain = self.world.snapshot()
        if not self.quotas:
            return plain
        index = {quota.organization_id: number for number, quota in enumerate(self.quotas)}

        def column(ids: Int64) -> Int32:
            return np.array([index[self.owners[int(one)]] for one in ids], np.int32)

        return replace(
            plain,
            allocations=replace(plain.allocations, organization=column(plain.allocations.deployment_id)),
            pending=replace(plain.pending, organization=column(plain.pending.deployment_id)),
            quotas=self.quotas,
            frozen_pairs=self.frozen,
        )

    def after(self, plan: Plan) -> Shared:
        """The cluster after the plan was committed."""
        return replace(self, world=commit(self.world, plan))

    def after_victims_end(self) -> Shared:
        """The cluster after all stopping deployments have ended and were queued again."""
        return replace(self, world=after_victims_end(self.world))

    def usage(self, organization: int, *, releasing: bool = True) -> Resources:
        """The usage of the organization, with or without releasing allocations."""
        own = [run for run in self.world.running if self.owners[run.deployment] == organization]
        return sum((total_request(run.shape) for run in own if releasing or not run.releasing), Resources())

    def account(self, organization: int) -> QuotaUsage:
        """The quota and usage of the organization before the pass."""
        quota = next(quota for quota in self.quotas if quota.organization_id == organization)
        return QuotaUsage(quota, self.usage(organization, releasing=False), self.capacity)

    @property
    def capacity(self) -> Resources:
        nodes = self.world.nodes
        return Resources(
            sum(node.cpu for node in nodes),
            sum(node.ram for node in nodes),
            sum(node.gpus for node in nodes) * 1000,
        )

    def running_of(self, organization: int) -> int:
        return sum(self.owners[run.deployment] == organization for run in self.world.running)

    def running(self, organization: int, devices: range, priority: int = 500, node: int = 1) -> Shared:
        """One-GPU work on each of these devices of the node."""
        more = tuple(Running(100 * node + device, node, gpu(1), (device,), priority) for device in devices)
        world = replace(self.world, running=self.world.running + more)
        return replace(self, world=world, owners={**self.owners, **{run.id: organization for run in more}})

    def pending(
        self, organization: int, count: int, priority: int = 500, size: float = 1, replicas: int = 1
    ) -> Shared:
        first = 1000 + len(self.world.pending)
        more = tuple(
            Pending(first + number, gpu(size), priority, float(number), replicas=replicas)
            for number in range(count)
        )
        world = replace(self.world, pending=self.world.pending + more)
        return replace(self, world=world, owners={**self.owners, **{item.id: organization for item in more}})


def eight_gpus(*quotas: Quota) -> Shared:
    """One node with 8 GPUs and plenty of CPU and RAM."""
    return Shared(World((gpu_node(1, gpus=8),)), quotas)


def two_nodes(*quotas: Quota) -> Shared:
    """Two nodes with 4 GPUs each and plenty of CPU and RAM."""
    return Shared(World((gpu_node(1, gpus=4), gpu_node(2, gpus=4))), quotas)


@st.composite
def shared_clusters(draw: st.DrawFn, clusters: st.SearchStrategy[World]) -> Shared:
    """A random cluster of two or three organizations; the guarantees never exceed the capacity."""
    shared = Shared(draw(clusters), ())
    organizations = range(1, draw(st.integers(2, 3)) + 1)
    left = shared.capacity
    quotas = []
    for organization in organizations:
        quota, left = draw(_quotas(organization, left))
        quotas.append(quota)
    ids = {run.deployment for run in shared.world.running} | {item.id for item in shared.world.pending}
    owner = st.sampled_from(organizations)
    return replace(shared, quotas=tuple(quotas), owners={id_: draw(owner) for id_ in sorted(ids)})


@st.composite
def _quotas(draw: st.DrawFn, organization: int, left: Resources) -> tuple[Quota, Resources]:
    part = draw(st.sampled_from([0, 1, 2, 3]))
    guaranteed = Resources(left.cpu_milli * part // 4, left.ram_mib * part // 4, left.gpu_milli * part // 4)
    limit = draw(st.sampled_from([None, None, Resources(3000, 4096, 2000), Resources(0, 0, 0)]))
    weight = draw(st.sampled_from([1.0, 1.0, 2.0]))
    return Quota(organization, guaranteed, limit, weight), left - guaranteed


def gpus_of(count: int) -> Resources:
    """Some of the GPUs, with all of the CPU and RAM."""
    return Resources(64_000, 65_536, count * 1000)


def total_request(shape: Shape, replicas: int = 1) -> Resources:
    return Resources(shape.cpu_milli * replicas, shape.ram_mib * replicas, shape.gpu_milli * replicas)
