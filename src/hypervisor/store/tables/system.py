"""The installation itself, the servers that schedule in it, and what each of them holds."""

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


class Server(Base):
    """A server that schedules, as long as it says so: `expires_at` is by the database's clock."""

    __tablename__ = "servers"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    """The `holder` of its leases."""
    host: Mapped[str] = mapped_column(String(255))
    """Machine and process, for people."""
    excluded_leases: Mapped[list[str]] = mapped_column(default=list)
    """Names of leases that it cannot use: engines that it does not reach."""
    started_at: Mapped[datetime]
    expires_at: Mapped[datetime]


class EngineState(Base):
    """What the servers must agree on about an engine; `name` is also that of its lease."""

    __tablename__ = "engines"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    runtime: Mapped[str] = mapped_column(String(16))
    endpoint: Mapped[str | None] = mapped_column(String(255))
    engine_identity: Mapped[str | None] = mapped_column(String(255))
    """Who the engine said it is: nobody may take another one for it while something of ours lives there."""
    cordoned_since: Mapped[datetime | None]
    """Since when it has taken nothing new: it does not answer, or nobody is there to drive it."""
