"""Attempts, their allocations and GPU claims, nominations of preemptors, and instances to remove."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    String,
    Text,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from hypervisor.store.base import Base, BigId


class Attempt(Base):
    """One attempt to run one replica on a node.

    It is live until `finished_at` is set. A deployment has at most one live attempt per replica.
    """

    __tablename__ = "attempts"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    deployment_id: Mapped[int] = mapped_column(ForeignKey("deployments.id", ondelete="CASCADE"))
    organization_id: Mapped[int] = mapped_column(
        ForeignKey("organizations.id", ondelete="CASCADE"), index=True
    )
    cluster_id: Mapped[int] = mapped_column(ForeignKey("clusters.id", ondelete="CASCADE"))
    node_id: Mapped[int | None] = mapped_column(ForeignKey("nodes.id", ondelete="SET NULL"), index=True)
    node_name: Mapped[str] = mapped_column(String(100))
    number: Mapped[int]
    replica: Mapped[int] = mapped_column(default=0)
    runtime: Mapped[str] = mapped_column(String(16))
    engine_endpoint: Mapped[str | None] = mapped_column(String(255))
    instance: Mapped[str] = mapped_column(String(64), unique=True)
    gpu_indices: Mapped[list[int]] = mapped_column(default=list)
    gpu_milli_per_device: Mapped[int] = mapped_column(default=0)

    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    stop_requested_at: Mapped[datetime | None]
    stop_grace_seconds: Mapped[int | None]
    stop_reason: Mapped[str | None] = mapped_column(String(32))
    """Why the stop was requested: preempted, stopped, cancelled, drained, max_runtime, deleted,
    gang_failed, gang_timeout."""
    preempted_by: Mapped[int | None] = mapped_column(BigInteger)
    restarted_at: Mapped[datetime | None]
    """The last start of its instance from outside of the product; the attempt continued."""
    health: Mapped[str | None] = mapped_column(String(16))
    """The last result of the image's health check: starting, healthy, unhealthy."""
    end_observed: Mapped[dict[str, Any] | None]
    """The engine's report of the end, stored before the instance is removed. The attempt is live until the
    removal, because an ended instance can be started again until then."""
    finished_at: Mapped[datetime | None]
    outcome: Mapped[str | None] = mapped_column(String(32))
    exit_code: Mapped[int | None]
    message: Mapped[str | None] = mapped_column(Text)
    ports: Mapped[list[dict[str, Any]] | None]
    checkpoint_at: Mapped[datetime | None]
    """Time of the last checkpoint report. Lost work counts from here."""
    checkpoint: Mapped[dict[str, Any] | None]
    """The content of that report: progress, step, message, path; each only if it was reported."""

    __table_args__ = (
        Index("ix_attempts_deployment_id_number", "deployment_id", "number"),
        # The latest attempts on a cluster, for forecasts.
        Index("ix_attempts_cluster_id_id", "cluster_id", "id"),
        # Recent preemptions of a cluster, for budgets and for ping-pong pairs.
        Index(
            "ix_attempts_preempted",
            "cluster_id",
            "stop_requested_at",
            sqlite_where=text("preempted_by IS NOT NULL"),
            postgresql_where=text("preempted_by IS NOT NULL"),
        ),
        Index(
            "uq_attempts_live",
            "deployment_id",
            "replica",
            unique=True,
            sqlite_where=text("finished_at IS NULL"),
            postgresql_where=text("finished_at IS NULL"),
        ),
        {"sqlite_autoincrement": True},
    )


class Allocation(Base):
    """Capacity held by a live attempt. Deleted only after the end of the attempt was OBSERVED."""

    __tablename__ = "allocations"

    attempt_id: Mapped[int] = mapped_column(ForeignKey("attempts.id", ondelete="CASCADE"), primary_key=True)
    deployment_id: Mapped[int] = mapped_column(ForeignKey("deployments.id", ondelete="CASCADE"), index=True)
    cluster_id: Mapped[int] = mapped_column(ForeignKey("clusters.id", ondelete="CASCADE"), index=True)
    node_id: Mapped[int] = mapped_column(ForeignKey("nodes.id", ondelete="RESTRICT"), index=True)
    cpu_milli: Mapped[int] = mapped_column(BigInteger)
    ram_mib: Mapped[int] = mapped_column(BigInteger)
    gpu_milli: Mapped[int] = mapped_column(BigInteger)


class GpuClaim(Base):
    """A GPU, or a part of one, held by an allocation. A claim on a whole device is the only one there."""

    __tablename__ = "gpu_claims"

    attempt_id: Mapped[int] = mapped_column(
        ForeignKey("allocations.attempt_id", ondelete="CASCADE"), primary_key=True
    )
    gpu_index: Mapped[int] = mapped_column(primary_key=True)
    node_id: Mapped[int]
    milli: Mapped[int]

    __table_args__ = (
        ForeignKeyConstraint(
            ["node_id", "gpu_index"], ["node_gpus.node_id", "node_gpus.gpu_index"], ondelete="RESTRICT"
        ),
        CheckConstraint("milli BETWEEN 1 AND 1000", name="milli"),
        Index(
            "uq_gpu_claims_whole",
            "node_id",
            "gpu_index",
            unique=True,
            sqlite_where=text("milli = 1000"),
            postgresql_where=text("milli = 1000"),
        ),
    )


class NominationRow(Base):
    """Capacity on a node, reserved for one replica of a preemptor until its start or withdrawal."""

    __tablename__ = "nominations"

    deployment_id: Mapped[int] = mapped_column(
        ForeignKey("deployments.id", ondelete="CASCADE"), primary_key=True
    )
    replica: Mapped[int] = mapped_column(primary_key=True, default=0)
    cluster_id: Mapped[int] = mapped_column(ForeignKey("clusters.id", ondelete="CASCADE"), index=True)
    node_id: Mapped[int] = mapped_column(ForeignKey("nodes.id", ondelete="CASCADE"), index=True)
    gpu_indices: Mapped[list[int]] = mapped_column(default=list)
    created_at: Mapped[datetime]


class InstanceGc(Base):
    """An instance that its runtime must remove; with `purge_logs` also its logs.

    Inserted with the end of its attempt or the deletion of its deployment; deleted after the removal.
    """

    __tablename__ = "instance_gc"

    instance: Mapped[str] = mapped_column(String(64), primary_key=True)
    runtime: Mapped[str] = mapped_column(String(16))
    engine_endpoint: Mapped[str | None] = mapped_column(String(255))
    purge_logs: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime]
