"""Database URLs and database errors as one line for people, without driver and password."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from hypervisor.errors import StartupError
from hypervisor.store.driver.address import parse_database_url


def printable_database(url: str) -> str:
    """The URL without driver and password."""
    return str(parse_database_url(url))


@contextmanager
def using_database(url: str) -> Iterator[None]:
    """Raise StartupError with one line for every database or network error in the block."""
    try:
        yield
    except DBAPIError as error:
        raise _startup_error(url, error.orig or error) from error
    except (OSError, SQLAlchemyError) as error:
        raise _startup_error(url, error) from error


def _startup_error(url: str, cause: BaseException) -> StartupError:
    first_line = (str(cause).splitlines() or [type(cause).__name__])[0]
    return StartupError(f"the database {printable_database(url)} cannot be used: {first_line}")
