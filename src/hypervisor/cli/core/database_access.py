"""Database URLs and database errors as one line for people, without driver and password."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from hypervisor.errors import StartupError
from hypervisor.store.database import normalise_url


def printable_database(url: str) -> str:
    """The URL without driver and password."""
    parsed = normalise_url(url)
    return parsed.set(drivername=parsed.get_backend_name()).render_as_string(hide_password=True)


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
