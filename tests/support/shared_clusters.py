"""Random clusters of `tests.support.scheduling` with organizations on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from hypervisor.kernel.resources import Resources
from hypervisor.scheduling.outcome import Plan
from hypervisor.scheduling.shares import Account
from hypervisor.scheduling.snapshot import Quota, Shape, Snapshot
from tests.support.scheduling import Pending, Running, World, commit, gpu, gpu_node, victims_gone


@dataclass(frozen=True)
class Shared:
    """A world, the quotas on it, and whose each piece of work is (by its id)."""

    world: World
    quotas: tuple[Quota, ...]
    owners: Mapping[int, int] = field(default_factory=dict)
    frozen: tuple[tuple[int, int], ...] = ()

    def snapshot(self) -> Snapshot:
        plain = self.world.snapshot()
        index = {quota.organization_id: number for number, quota in enumerate(self.quotas)}

        def column(ids: object) -> np.ndarray:
            return np.array([index[self.owners[int(one)]] for one in ids], np.int32)  # type: ignore[attr-defined]

        return replace(
            plain,
            allocations=replace(plain.allocations, organization=column(plain.allocations.id)),
            pending=replace(plain.pending, organization=column(plain.pending.deployment_id)),
            quotas=self.quotas,
            frozen_pairs=self.frozen,
        )

    def after(self, plan: Plan) -> Shared:
        """The plan is committed."""
        return replace(self, world=commit(self.world, plan))

    def victims_gone(self) -> Shared:
        """Those that were asked to stop have stopped and wait again."""
        return replace(self, world=victims_gone(self.world))

    def usage(self, organization: int, *, releasing: bool = True) -> Resources:
        """What its work holds, with or without what has been asked to stop."""
        own = [run for run in self.world.running if self.owners[run.id] == organization]
        return sum((holds(run.shape) for run in own if releasing or not run.releasing), Resources())

    def account(self, organization: int) -> Account:
        """Its account before anything is decided."""
        quota = next(quota for quota in self.quotas if quota.organization_id == organization)
        return Account(quota, self.usage(organization, releasing=False), self.capacity)

    @property
    def capacity(self) -> Resources:
        nodes = self.world.nodes
        return Resources(
            sum(node.cpu for node in nodes),
            sum(node.ram for node in nodes),
            sum(node.gpus for node in nodes) * 1000,
        )

    def running_of(self, organization: int) -> int:
        return sum(self.owners[run.id] == organization for run in self.world.running)

    def running(self, organization: int, devices: range, priority: int = 500) -> Shared:
        """One-GPU work on each of these devices of the first node."""
        more = tuple(Running(100 + device, 1, gpu(1), (device,), priority) for device in devices)
        world = replace(self.world, running=self.world.running + more)
        return replace(self, world=world, owners={**self.owners, **{run.id: organization for run in more}})

    def pending(self, organization: int, count: int, priority: int = 500, size: float = 1) -> Shared:
        first = 1000 + len(self.world.pending)
        more = tuple(Pending(first + number, gpu(size), priority, float(number)) for number in range(count))
        world = replace(self.world, pending=self.world.pending + more)
        return replace(self, world=world, owners={**self.owners, **{item.id: organization for item in more}})


def eight_gpus(*quotas: Quota) -> Shared:
    """One node with 8 GPUs and plenty of CPU and RAM."""
    return Shared(World((gpu_node(1, gpus=8),)), quotas)


def gpus_of(count: int) -> Resources:
    """Some of the GPUs, with all of the CPU and RAM."""
    return Resources(64_000, 65_536, count * 1000)


def holds(shape: Shape) -> Resources:
    return Resources(shape.cpu_milli, shape.ram_mib, shape.gpu_milli)
