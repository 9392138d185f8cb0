"""Deployments, their dependencies, their labels for filters, and idempotency keys."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ColumnElement,
    ForeignKey,
    Index,
    String,
    Text,
    literal_column,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from hypervisor.store.base import Base, BigId

STATES = (
    "BLOCKED",
    "QUEUED",
    "STARTING",
    "RUNNING",
    "STOPPING",
    "SUCCEEDED",
    "FAILED",
    "STOPPED",
    "CANCELLED",
)


class Deployment(Base):
    """A submitted workload. `generation` rises with each change of state and guards every write."""

    __tablename__ = "deployments"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    organization_id: Mapped[int] = mapped_column(ForeignKey("organizations.id", ondelete="CASCADE"))
    cluster_id: Mapped[int] = mapped_column(ForeignKey("clusters.id", ondelete="CASCADE"))
    created_by: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    name: Mapped[str] = mapped_column(String(100))
    kind: Mapped[str] = mapped_column(String(16))

    docker_image: Mapped[str | None] = mapped_column(String(512))
    command: Mapped[list[str] | None]
    env: Mapped[dict[str, Any] | None]
    """Plain values as text; secret ones as {"encrypted": ...}, or {"lost": ...} after a loss of the key."""
    ports: Mapped[list[int] | None]
    working_dir: Mapped[str | None] = mapped_column(String(1024))
    read_only_root: Mapped[bool] = mapped_column(default=False)

    cpu_milli: Mapped[int] = mapped_column(BigInteger)
    ram_mib: Mapped[int] = mapped_column(BigInteger)
    gpu_milli: Mapped[int] = mapped_column(BigInteger, default=0)
    placement_limits: Mapped[dict[str, Any] | None]
    """{"gpu_models": [...], "node_selector": {...}}; NULL if there are none."""
    replicas: Mapped[int] = mapped_column(default=1)
    """Number of copies that start together, all or none, each with the resources above."""
    replica_placement: Mapped[str] = mapped_column(String(16), default="pack", server_default="pack")
    """"pack": the replicas prefer few nodes. "spread": they prefer different nodes."""
    gang_timeout_seconds: Mapped[int] = mapped_column(default=300, server_default="300")
    """Time from placement until all replicas must run; after that they are stopped and queued again."""

    priority: Mapped[int]
    preemptible: Mapped[bool] = mapped_column(default=True)
    min_runtime_seconds: Mapped[int] = mapped_column(default=0)
    max_runtime_seconds: Mapped[int | None]
    grace_period_seconds: Mapped[int] = mapped_column(default=10)
    restart_policy: Mapped[str] = mapped_column(String(16))
    max_retries: Mapped[int] = mapped_column(default=0)
    retry_exit_codes: Mapped[list[int] | None]
    """The only exit codes that are retried; NULL means any but 0."""
    on_failure: Mapped[str] = mapped_column(String(16), default="cancel")
    labels: Mapped[dict[str, str] | None]

    state: Mapped[str] = mapped_column(String(16))
    state_after_stop: Mapped[str | None] = mapped_column(String(16))
    """While STOPPING: the state that follows after the stop was observed."""
    reason_code: Mapped[str | None] = mapped_column(String(64))
    reason: Mapped[str | None] = mapped_column(Text)
    reason_data: Mapped[dict[str, Any] | None]
    generation: Mapped[int] = mapped_column(default=0)
    attempts_made: Mapped[int] = mapped_column(default=0)
    retries_used: Mapped[int] = mapped_column(default=0)
    preemptions: Mapped[int] = mapped_column(default=0)
    traceparent: Mapped[str | None] = mapped_column(String(55))
    """The W3C trace context of the request that submitted or last started it, if it was traced."""
    not_before: Mapped[datetime | None]
    delete_requested_at: Mapped[datetime | None]

    created_at: Mapped[datetime]
    queued_at: Mapped[datetime | None]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    exit_code: Mapped[int | None]

    __table_args__ = (
        CheckConstraint(f"state IN ({', '.join(repr(s) for s in STATES)})", name="state"),
        CheckConstraint("kind IN ('job', 'service')", name="kind"),
        CheckConstraint("cpu_milli >= 0 AND ram_mib >= 0 AND gpu_milli >= 0", name="resources"),
        CheckConstraint("gpu_milli < 1000 OR gpu_milli % 1000 = 0", name="gpu_shape"),
        CheckConstraint("priority BETWEEN 0 AND 1000", name="priority"),
        CheckConstraint("replicas >= 1", name="replicas"),
        CheckConstraint("replica_placement IN ('pack', 'spread')", name="replica_placement"),
        CheckConstraint("(state = 'STOPPING') = (state_after_stop IS NOT NULL)", name="state_after_stop"),
        CheckConstraint("restart_policy IN ('never', 'on-failure', 'always')", name="restart_policy"),
        CheckConstraint("on_failure IN ('cancel', 'hold')", name="on_failure"),
        # Each ends with the id, so that a list page is read from one end of the index. See `listing`.
        Index("ix_deployments_organization_id_id", "organization_id", "id"),
        Index("ix_deployments_organization_id_name", "organization_id", "name", "id"),
        Index("ix_deployments_organization_id_state", "organization_id", "state", "id"),
        Index("ix_deployments_organization_id_state_priority", "organization_id", "state", "priority", "id"),
        Index("ix_deployments_cluster_id_state_id", "cluster_id", "state", "id"),
        # The queue of a cluster, in its order.
        Index(
            "ix_deployments_queue",
            "cluster_id",
            text("priority DESC"),
            "created_at",
            "id",
            sqlite_where=text("state = 'QUEUED'"),
            postgresql_where=text("state = 'QUEUED'"),
        ),
        {"sqlite_autoincrement": True},
    )


IS_QUEUED: ColumnElement[bool] = Deployment.state == literal_column("'QUEUED'")
"""Whether a deployment is queued. The state is a literal, because a generic plan of PostgreSQL (for any
parameter) cannot use the partial index of the queue."""


class Dependency(Base):
    """`deployment_id` is blocked until `depends_on_id` has reached `condition`."""

    __tablename__ = "dependencies"

    deployment_id: Mapped[int] = mapped_column(
        ForeignKey("deployments.id", ondelete="CASCADE"), primary_key=True
    )
    depends_on_id: Mapped[int] = mapped_column(
        ForeignKey("deployments.id", ondelete="CASCADE"), primary_key=True, index=True
    )
    condition: Mapped[str] = mapped_column(String(16))

    __table_args__ = (
        CheckConstraint("condition IN ('succeeded', 'running')", name="condition"),
        CheckConstraint("deployment_id <> depends_on_id", name="not_itself"),
    )


class DeploymentLabel(Base):
    """A copy of `Deployment.labels`, one row per label, so that filters can use an index."""

    __tablename__ = "deployment_labels"

    deployment_id: Mapped[int] = mapped_column(
        ForeignKey("deployments.id", ondelete="CASCADE"), primary_key=True
    )
    key: Mapped[str] = mapped_column(String(63), primary_key=True)
    value: Mapped[str] = mapped_column(String(255))

    __table_args__ = (Index("ix_deployment_labels_key_value", "key", "value", "deployment_id"),)


class IdempotencyKey(Base):
    """The deployments that an `Idempotency-Key` of this user created, and the hash of the request."""

    __tablename__ = "idempotency_keys"

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    request_hash: Mapped[str] = mapped_column(String(64))
    deployment_ids: Mapped[list[int]]
    created_at: Mapped[datetime] = mapped_column(index=True)
