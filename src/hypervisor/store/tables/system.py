"""The installation itself and the leases of its loops."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, String
from sqlalchemy.orm import Mapped, mapped_column

from hypervisor.store.base import Base


class Installation(Base):
    """One row: the short random id that is part of every runtime instance's name."""

    __tablename__ = "installation"

    id: Mapped[int] = mapped_column(primary_key=True, default=1)
    install_id: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[datetime]

    __table_args__ = (CheckConstraint("id = 1", name="single"),)


class LeaseEpoch(Base):
    """The fencing token of a loop; it only rises. Apart from `leases`: renewals never block commits."""

    __tablename__ = "lease_epochs"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    epoch: Mapped[int] = mapped_column(BigInteger)


class Lease(Base):
    """Who holds a loop and until when, by the database's clock."""

    __tablename__ = "leases"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    holder: Mapped[str] = mapped_column(String(64))
    expires_at: Mapped[datetime]
