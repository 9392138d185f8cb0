"""The installation, its servers with control loops, their leases, and engines."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, String
from sqlalchemy.orm import Mapped, mapped_column

from hypervisor.store.base import Base


class Installation(Base):
    """One row: the short random id that is part of every instance name."""

    __tablename__ = "installation"

    id: Mapped[int] = mapped_column(primary_key=True, default=1)
    install_id: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[datetime]

    __table_args__ = (CheckConstraint("id = 1", name="single"),)


class LeaseEpoch(Base):
    """The fencing token of a lease; it only rises. A separate table, so that renewals never block commits."""

    __tablename__ = "lease_epochs"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    epoch: Mapped[int] = mapped_column(BigInteger)


class Lease(Base):
    """The holder of a lease and its expiry, by the database's clock."""

    __tablename__ = "leases"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    holder: Mapped[str] = mapped_column(String(64))
    expires_at: Mapped[datetime]


class Server(Base):
    """A live server with control loops. Its heartbeat extends `expires_at`, by the database's clock."""

    __tablename__ = "servers"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    """The `holder` of its leases."""
    host: Mapped[str] = mapped_column(String(255))
    """Machine and process, for people."""
    excluded_leases: Mapped[list[str]] = mapped_column(default=list)
    """Names of leases that it cannot use, because it does not reach their engine."""
    started_at: Mapped[datetime]
    expires_at: Mapped[datetime]


class EngineState(Base):
    """State of an engine that all servers share. `name` is also the name of its lease."""

    __tablename__ = "engines"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    runtime: Mapped[str] = mapped_column(String(16))
    endpoint: Mapped[str | None] = mapped_column(String(255))
    engine_identity: Mapped[str | None] = mapped_column(String(255))
    """The identity that the engine reported. Another engine must not replace it while live attempts exist."""
    cordoned_since: Mapped[datetime | None]
    """Start of the cordon: the engine does not respond, or no server can reach it."""
