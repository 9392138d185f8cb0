"""The database in words for people: no driver, no password, and why it cannot be used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from hypervisor.errors import StartupError
from hypervisor.store.database import normalise_url


def printable_database(url: str) -> str:
    """The URL as people know it."""
    parsed = normalise_url(url)
    return parsed.set(drivername=parsed.get_backend_name()).render_as_string(hide_password=True)


@contextmanager
def using_database(url: str) -> Iterator[None]:
    """Whatever keeps the database from being used becomes a StartupError of one line."""
    try:
        yield
    except DBAPIError as error:
        raise _unusable(url, error.orig or error) from error
    except (OSError, SQLAlchemyError) as error:
        raise _unusable(url, error) from error


def _unusable(url: str, why: BaseException) -> StartupError:
    first_line = (str(why).splitlines() or [type(why).__name__])[0]
    return StartupError(f"the database {printable_database(url)} cannot be used: {first_line}")
