"""Which errors mean that the database cannot be used now: the same request may succeed later."""

from __future__ import annotations

import sqlite3
from enum import Enum, auto

from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from hypervisor.store.driver.errors import DatabaseUnreachable


class Outage(Enum):
    """Why the database cannot be used now. Only after LOST is it unknown whether a change was committed."""

    UNREACHABLE = auto()
    LOST = auto()
    READ_ONLY = auto()
    DISK_FULL = auto()
    BUSY = auto()


_BY_SQLSTATE = {
    "25006": Outage.READ_ONLY,
    "53100": Outage.DISK_FULL,
    # Deadlock, serialization, lock and statement time-outs: the transaction was rolled back.
    **dict.fromkeys(("40001", "40P01", "55P03", "57014", "25P03", "25P04"), Outage.BUSY),
    # Too many connections, out of memory, starting, system error, no such database, no login.
    **dict.fromkeys(("53300", "53200", "53400", "57P03", "58000", "58030"), Outage.UNREACHABLE),
    **dict.fromkeys(("3D000", "28000", "28P01"), Outage.UNREACHABLE),
    # Ended by an administrator, by a crash, by DROP DATABASE, or by a time-out of the session.
    **dict.fromkeys(("57P01", "57P02", "57P04", "57P05"), Outage.LOST),
}
_CONNECTION_CLASS = "08"
_BY_SQLITE_CODE = {
    sqlite3.SQLITE_FULL: Outage.DISK_FULL,
    sqlite3.SQLITE_READONLY: Outage.READ_ONLY,
    sqlite3.SQLITE_CANTOPEN: Outage.UNREACHABLE,
    sqlite3.SQLITE_IOERR: Outage.UNREACHABLE,
}
_PRIMARY_CODE = 0xFF


def outage_of(error: BaseException) -> Outage | None:
    """The outage that an error shows; None for any other error."""
    if isinstance(error, DatabaseUnreachable):
        return Outage.UNREACHABLE
    if isinstance(error, PoolTimeout):
        return Outage.BUSY
    if isinstance(error, ConnectionError):
        return Outage.LOST
    return _of_driver(error) if isinstance(error, DBAPIError) else None


def _of_driver(error: DBAPIError) -> Outage | None:
    sqlstate = getattr(error.orig, "sqlstate", None) or ""
    code = (getattr(error.orig, "sqlite_errorcode", None) or 0) & _PRIMARY_CODE
    known = _BY_SQLSTATE.get(sqlstate) or _BY_SQLITE_CODE.get(code)
    if known is not None:
        return known
    if error.connection_invalidated or sqlstate.startswith(_CONNECTION_CLASS):
        return Outage.LOST
    return Outage.BUSY if isinstance(error, OperationalError) else None
