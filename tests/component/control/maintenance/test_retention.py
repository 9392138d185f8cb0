"""What the janitor forgets by age, and that it takes many short transactions for much."""

from __future__ import annotations

import math
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, insert, select, update

from hypervisor.control.leases.held import JANITOR, HeldLeases
from hypervisor.control.maintenance import loop
from hypervisor.control.maintenance.retention import RetentionPolicy, forget_logs, forget_rows
from hypervisor.control.reconciler.engine_pool import EnginePool
from hypervisor.infra.wakeup import Wakeup
from hypervisor.store import batches
from hypervisor.store.tables import Cluster, Event, IdempotencyKey, Organization, User
from tests.support.clock import FakeClock
from tests.support.world import World


async def test_events_are_forgotten_by_age_a_batch_at_a_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "MAX_BATCHES", 3)
    now, keep = world.clock.now(), RetentionPolicy(events=timedelta(days=30))
    await world.cluster()
    commits: list[None] = []
    async with world.database.write() as session:
        organization_id = await session.scalar(select(Organization.id))
        rows = [
            {"at": now - timedelta(days=age), "organization_id": organization_id}
            for age in (*[31] * 3500, 29, 1)
        ]
        await session.execute(insert(Event).values(actor="test", type="test", message=""), rows)
    world.database.after_commit.append(lambda: commits.append(None))

    await forget_rows(world.database, keep, now)
    assert await _events(world) == 502
    assert len(commits) >= 3
    await forget_rows(world.database, keep, now)
    assert await _events(world) == 2


async def test_keys_of_requests_are_forgotten_by_age_a_batch_at_a_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "MAX_BATCHES", 2)
    now, keep = world.clock.now(), RetentionPolicy(idempotency_keys=timedelta(hours=24))
    async with world.database.write() as session:
        somebody = User(
            username="ada",
            username_normalized="ada",
            email="ada@example.com",
            email_normalized="ada@example.com",
            password_hash="",
            created_at=now,
        )
        session.add(somebody)
        await session.flush()
        rows = [
            {"key": f"k{number}", "created_at": now - timedelta(hours=age)}
            for number, age in enumerate([*[25] * 2500, 23, 0])
        ]
        await session.execute(
            insert(IdempotencyKey).values(user_id=somebody.id, request_hash="", deployment_ids=[]), rows
        )

    await forget_rows(world.database, keep, now)
    assert len(await _keys(world)) == 502
    await forget_rows(world.database, keep, now)
    assert await _keys(world) == ["k2500", "k2501"]


async def test_a_deletion_that_fails_holds_up_nothing_else(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else one that runs into a time limit at each turn would let history and logs grow for ever."""
    cluster = await world.cluster()
    clock = FakeClock(world.clock.now())
    async with world.database.write() as session:
        await session.execute(update(Cluster).where(Cluster.id == cluster).values(deleting_at=clock.now()))
        organization_id = await session.scalar(select(Organization.id))
        old = {"at": clock.now() - timedelta(days=2), "organization_id": organization_id}
        await session.execute(insert(Event).values(actor="test", type="test", message="", **old))
    holdings = HeldLeases(clock, Wakeup())
    holdings.acquired({JANITOR: 1}, math.inf)
    registry = world.registry()
    engines, keep = EnginePool(registry, holdings, "here"), RetentionPolicy(events=timedelta(days=1))
    tidy = loop.Maintenance(world.database, clock, Wakeup(), engines, holdings, keep=keep)
    tried: list[None] = []

    async def too_slow(*_: object) -> None:
        tried.append(None)
        raise TimeoutError

    monkeypatch.setattr(loop, "finish_deletions", too_slow)
    clock.advance(loop.SWEEP_EVERY)
    await tidy.clean_up()
    await registry.close()
    assert len(tried) == 1
    assert await _events(world) == 0


def test_logs_are_forgotten_by_age_and_nothing_else_is(tmp_path: Path) -> None:
    now, keep = (
        datetime.now(UTC),
        RetentionPolicy(logs=timedelta(days=7), log_folders=(tmp_path, tmp_path / "none")),
    )
    old, new = (now - timedelta(days=8)).timestamp(), (now - timedelta(days=6)).timestamp()
    for name, age in {"hv-abcd-1-1-0": old, "hv-abcd-2-1-0": new, "notes": old}.items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / "log").write_text("said\n")
        os.utime(folder, (age, age))
    for name, age in {"hv-abcd-3-1-0.log": old, "hv-abcd-4-1-0.log": new, "hv-abcd-5-1-0.due": old}.items():
        (tmp_path / name).write_text("said\n")
        os.utime(tmp_path / name, (age, age))

    forget_logs(keep, now)

    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"hv-abcd-2-1-0", "notes", "hv-abcd-4-1-0.log", "hv-abcd-5-1-0.due"}


async def _keys(world: World) -> list[str]:
    async with world.database.read() as session:
        return list(await session.scalars(select(IdempotencyKey.key).order_by(IdempotencyKey.key)))


async def _events(world: World) -> int:
    async with world.database.read() as session:
        return int(await session.scalar(select(func.count()).select_from(Event)) or 0)
