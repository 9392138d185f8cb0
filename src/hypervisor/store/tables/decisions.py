"""Scheduling decisions with their snapshots, for a replay."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from hypervisor.store.base import Base, BigId


class Decision(Base):
    """One pass that changed something. SNAPSHOT_RETENTION_HOURS limits its lifetime.

    `snapshot` contains the snapshot and the policy, encoded by
    `hypervisor.scheduling.decision_codec.encoding`. The hashes are SHA-256 in hex: of the uncompressed
    snapshot, and of its plan.
    """

    __tablename__ = "decisions"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    cluster_id: Mapped[int] = mapped_column(ForeignKey("clusters.id", ondelete="CASCADE"))
    at: Mapped[datetime] = mapped_column(index=True)
    epoch: Mapped[int] = mapped_column(BigInteger)
    snapshot_hash: Mapped[str] = mapped_column(String(64))
    plan_hash: Mapped[str] = mapped_column(String(64))
    placements: Mapped[int]
    evictions: Mapped[int]
    nominations: Mapped[int]
    waiting: Mapped[int]
    snapshot: Mapped[bytes] = mapped_column(LargeBinary, deferred=True)
    snapshot_bytes: Mapped[int] = mapped_column(BigInteger)

    __table_args__ = (
        Index("ix_decisions_cluster_id_id", "cluster_id", "id"),
        {"sqlite_autoincrement": True},
    )
