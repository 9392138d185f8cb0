"""Cluster shares: the owner's offers to other organizations, and their states."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from hypervisor.store.base import Base

SHARE_STATES = ("offered", "accepted", "declined", "withdrawn")


class ClusterShare(Base):
    """The guarantee, limit and weight of another organization on a cluster. NULL in `limit_*` means no limit.

    A withdrawn share stays until the workloads of the organization have drained.
    """

    __tablename__ = "cluster_shares"

    cluster_id: Mapped[int] = mapped_column(ForeignKey("clusters.id", ondelete="CASCADE"), primary_key=True)
    organization_id: Mapped[int] = mapped_column(
        ForeignKey("organizations.id", ondelete="CASCADE"), primary_key=True, index=True
    )
    guaranteed_cpu_milli: Mapped[int] = mapped_column(BigInteger, default=0)
    guaranteed_ram_mib: Mapped[int] = mapped_column(BigInteger, default=0)
    guaranteed_gpu_milli: Mapped[int] = mapped_column(BigInteger, default=0)
    limit_cpu_milli: Mapped[int | None] = mapped_column(BigInteger)
    limit_ram_mib: Mapped[int | None] = mapped_column(BigInteger)
    limit_gpu_milli: Mapped[int | None] = mapped_column(BigInteger)
    weight_milli: Mapped[int] = mapped_column(default=1000)
    state: Mapped[str] = mapped_column(String(16), default="offered")
    offered_by: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    offered_at: Mapped[datetime]
    answered_by: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    answered_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint(f"state IN ({', '.join(repr(s) for s in SHARE_STATES)})", name="state"),
        CheckConstraint("weight_milli > 0", name="weight"),
        CheckConstraint(
            "guaranteed_cpu_milli >= 0 AND guaranteed_ram_mib >= 0 AND guaranteed_gpu_milli >= 0",
            name="guaranteed",
        ),
    )
