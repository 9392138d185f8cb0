"""Maintenance deletes expired data, in many short transactions."""

from __future__ import annotations

import math
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, insert, select, update

from hypervisor.control.leases.held import MAINTENANCE, HeldLeases
from hypervisor.control.maintenance import loop
from hypervisor.control.maintenance.retention import RetentionPolicy, delete_expired_logs, delete_expired_rows
from hypervisor.control.reconciler.engine_pool import EnginePool
from hypervisor.infra.wakeup import Wakeup
from hypervisor.store import batches
from hypervisor.store.tables import Cluster, Event, IdempotencyKey, Organization, User
from tests.support.clock import FakeClock
from tests.support.world import World


async def test_events_are_deleted_by_age_in_batches(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "MAX_BATCHES", 3)
    now, retention = world.clock.now(), RetentionPolicy(events=timedelta(days=30))
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

    await delete_expired_rows(world.database, retention, now)
    assert await _events(world) == 502
    assert len(commits) >= 3
    await delete_expired_rows(world.database, retention, now)
    assert await _events(world) == 2


async def test_idempotency_keys_are_deleted_by_age_in_batches(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "MAX_BATCHES", 2)
    now, retention = world.clock.now(), RetentionPolicy(idempotency_keys=timedelta(hours=24))
    async with world.database.write() as session:
        user = User(
            username="ada",
            username_normalized="ada",
            email="ada@example.com",
            email_normalized="ada@example.com",
            password_hash="",
            created_at=now,
        )
        session.add(user)
        await session.flush()
        rows = [
            {"key": f"k{number}", "created_at": now - timedelta(hours=age)}
            for number, age in enumerate([*[25] * 2500, 23, 0])
        ]
        await session.execute(
            insert(IdempotencyKey).values(user_id=user.id, request_hash="", deployment_ids=[]), rows
        )

    await delete_expired_rows(world.database, retention, now)
    assert len(await _keys(world)) == 502
    await delete_expired_rows(world.database, retention, now)
    assert await _keys(world) == ["k2500", "k2501"]


async def test_a_failed_deletion_does_not_prevent_the_other_jobs(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a deletion that times out in each turn would let events and logs grow without limit."""
    cluster = await world.cluster()
    clock = FakeClock(world.clock.now())
    async with world.database.write() as session:
        await session.execute(update(Cluster).where(Cluster.id == cluster).values(deleting_at=clock.now()))
        organization_id = await session.scalar(select(Organization.id))
        expired = {"at": clock.now() - timedelta(days=2), "organization_id": organization_id}
        await session.execute(insert(Event).values(actor="test", type="test", message="", **expired))
    leases = HeldLeases(clock, Wakeup())
    leases.acquired({MAINTENANCE: 1}, math.inf)
    registry = world.registry()
    engine_pool, retention = EnginePool(registry, leases, "here"), RetentionPolicy(events=timedelta(days=1))
    maintenance = loop.Maintenance(world.database, clock, Wakeup(), engine_pool, leases, retention=retention)
    attempts: list[None] = []

    async def time_out(*_: object) -> None:
        attempts.append(None)
        raise TimeoutError

    monkeypatch.setattr(loop, "finish_deletions", time_out)
    clock.advance(loop.SWEEP_INTERVAL)
    await maintenance.clean_up()
    await registry.close()
    assert len(attempts) == 1
    assert await _events(world) == 0


def test_only_logs_are_deleted_by_age(tmp_path: Path) -> None:
    now, retention = (
        datetime.now(UTC),
        RetentionPolicy(logs=timedelta(days=7), log_folders=(tmp_path, tmp_path / "none")),
    )
    expired, recent = (now - timedelta(days=8)).timestamp(), (now - timedelta(days=6)).timestamp()
    for name, age in {"hv-abcd-1-1-0": expired, "hv-abcd-2-1-0": recent, "notes": expired}.items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / "log").write_text("said\n")
        os.utime(folder, (age, age))
    for name, age in {
        "hv-abcd-3-1-0.log": expired,
        "hv-abcd-6-1-0.log.gz": expired,
        "hv-abcd-4-1-0.log": recent,
        "hv-abcd-5-1-0.due": expired,
    }.items():
        (tmp_path / name).write_text("said\n")
        os.utime(tmp_path / name, (age, age))

    delete_expired_logs(retention, now)

    remaining = {path.name for path in tmp_path.iterdir()}
    assert remaining == {"hv-abcd-2-1-0", "notes", "hv-abcd-4-1-0.log", "hv-abcd-5-1-0.due"}


async def _keys(world: World) -> list[str]:
    async with world.database.read() as session:
        return list(await session.scalars(select(IdempotencyKey.key).order_by(IdempotencyKey.key)))


async def _events(world: World) -> int:
    async with world.database.read() as session:
        return int(await session.scalar(select(func.count()).select_from(Event)) or 0)
