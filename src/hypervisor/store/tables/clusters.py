"""Clusters, nodes and GPUs, with the amounts in use.

The transaction that inserts or deletes an allocation updates the `used_*` columns. CHECK constraints make
overcommitment impossible, independent of the code above.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from hypervisor.store.base import Base


class Cluster(Base):
    __tablename__ = "clusters"

    id: Mapped[int] = mapped_column(primary_key=True)
    organization_id: Mapped[int] = mapped_column(
        ForeignKey("organizations.id", ondelete="CASCADE"), index=True
    )
    name: Mapped[str] = mapped_column(String(100))
    runtime: Mapped[str] = mapped_column(String(16))
    """The requested runtime: `auto` or a name of `hypervisor.runtimes.kinds`."""
    resolved_runtime: Mapped[str] = mapped_column(String(16))
    """The runtime in use: `auto` is resolved when the cluster is created."""
    placement_policy: Mapped[str] = mapped_column(String(32), default="fgd")
    """The name of a placement policy of `scheduling/scoring/registry.py`."""
    optimizer_steps: Mapped[int] = mapped_column(default=0, server_default="0")
    """Maximum steps of the optimizer after a pass; 0 disables it."""
    solver: Mapped[str] = mapped_column(String(32), default="search", server_default="search")
    """The solver of the optimizer: a name in `scheduling/repacking/solvers.py`."""
    preemption: Mapped[bool] = mapped_column(default=True)
    min_runtime_seconds: Mapped[int] = mapped_column(default=0)
    preemption_budget: Mapped[int] = mapped_column(default=5, server_default="5")
    """Maximum preemptions of one deployment per window; after that it is protected. 0: no limit."""
    preemption_window_seconds: Mapped[int] = mapped_column(default=3600, server_default="3600")
    preemption_cooldown_seconds: Mapped[int] = mapped_column(default=1800, server_default="1800")
    created_at: Mapped[datetime]
    deleting_at: Mapped[datetime | None]

    __table_args__ = (
        UniqueConstraint("organization_id", "name"),
        CheckConstraint("min_runtime_seconds >= 0", name="min_runtime"),
        {"sqlite_autoincrement": True},
    )


class Node(Base):
    """A machine. Its row is the lock for every allocation on it (`FOR NO KEY UPDATE`, in id order).

    `target_*` is the size after a forced shrink. The scheduler already uses it; the capacity columns follow
    when the allocations above it have ended.
    """

    __tablename__ = "nodes"

    id: Mapped[int] = mapped_column(primary_key=True)
    cluster_id: Mapped[int] = mapped_column(ForeignKey("clusters.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(100))
    cpu_milli: Mapped[int] = mapped_column(BigInteger)
    ram_mib: Mapped[int] = mapped_column(BigInteger)
    gpu_count: Mapped[int] = mapped_column(default=0)
    gpu_model: Mapped[str | None] = mapped_column(String(100))
    labels: Mapped[dict[str, str]] = mapped_column(default=dict)
    engine_endpoint: Mapped[str | None] = mapped_column(String(255))
    cordoned: Mapped[bool] = mapped_column(default=False)
    draining: Mapped[bool] = mapped_column(default=False)
    deleting: Mapped[bool] = mapped_column(default=False)
    target_cpu_milli: Mapped[int | None] = mapped_column(BigInteger)
    target_ram_mib: Mapped[int | None] = mapped_column(BigInteger)
    target_gpu_count: Mapped[int | None]
    used_cpu_milli: Mapped[int] = mapped_column(BigInteger, default=0)
    used_ram_mib: Mapped[int] = mapped_column(BigInteger, default=0)
    created_at: Mapped[datetime]

    __table_args__ = (
        UniqueConstraint("cluster_id", "name"),
        CheckConstraint("cpu_milli >= 0 AND ram_mib >= 0", name="capacity"),
        CheckConstraint("gpu_count BETWEEN 0 AND 64", name="gpu_count"),
        CheckConstraint("used_cpu_milli BETWEEN 0 AND cpu_milli", name="cpu_fits"),
        CheckConstraint("used_ram_mib BETWEEN 0 AND ram_mib", name="ram_fits"),
        {"sqlite_autoincrement": True},
    )


class NodeGpu(Base):
    """One GPU of a node. Its claims never exceed 1000 milli."""

    __tablename__ = "node_gpus"

    node_id: Mapped[int] = mapped_column(ForeignKey("nodes.id", ondelete="CASCADE"), primary_key=True)
    gpu_index: Mapped[int] = mapped_column(primary_key=True)
    used_milli: Mapped[int] = mapped_column(default=0)

    __table_args__ = (CheckConstraint("used_milli BETWEEN 0 AND 1000", name="gpu_fits"),)
