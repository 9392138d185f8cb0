"""Parameters that are not in the URL: a section of libpq's service file, then the PG* variables."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from configparser import ConfigParser
from configparser import Error as ConfigError
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hypervisor.errors import StartupError

VARIABLES: Mapping[str, str] = {
    "user": "PGUSER",
    "password": "PGPASSWORD",
    "passfile": "PGPASSFILE",
    "channel_binding": "PGCHANNELBINDING",
    "connect_timeout": "PGCONNECT_TIMEOUT",
    "dbname": "PGDATABASE",
    "host": "PGHOST",
    "hostaddr": "PGHOSTADDR",
    "port": "PGPORT",
    "client_encoding": "PGCLIENTENCODING",
    "options": "PGOPTIONS",
    "application_name": "PGAPPNAME",
    "sslmode": "PGSSLMODE",
    "sslnegotiation": "PGSSLNEGOTIATION",
    "sslcompression": "PGSSLCOMPRESSION",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
    "sslcertmode": "PGSSLCERTMODE",
    "sslrootcert": "PGSSLROOTCERT",
    "sslcrl": "PGSSLCRL",
    "sslcrldir": "PGSSLCRLDIR",
    "sslsni": "PGSSLSNI",
    "requirepeer": "PGREQUIREPEER",
    "require_auth": "PGREQUIREAUTH",
    "min_protocol_version": "PGMINPROTOCOLVERSION",
    "max_protocol_version": "PGMAXPROTOCOLVERSION",
    "ssl_min_protocol_version": "PGSSLMINPROTOCOLVERSION",
    "ssl_max_protocol_version": "PGSSLMAXPROTOCOLVERSION",
    "gssencmode": "PGGSSENCMODE",
    "krbsrvname": "PGKRBSRVNAME",
    "gsslib": "PGGSSLIB",
    "gssdelegation": "PGGSSDELEGATION",
    "target_session_attrs": "PGTARGETSESSIONATTRS",
    "load_balance_hosts": "PGLOADBALANCEHOSTS",
    "service": "PGSERVICE",
    "servicefile": "PGSERVICEFILE",
}
"""The variable of each keyword that has one. A test compares them with libpq itself."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A value and its place, for example "DATABASE_URL: sslmode" or "PGSSLMODE"."""

    value: str
    place: str


def collect(written: Mapping[str, str]) -> dict[str, Parameter]:
    """All parameters, without empty ones: of the URL, else of the service, else of the environment.

    Raises StartupError if the service file does not define the service.
    """
    of_url = {key: Parameter(value, f"DATABASE_URL: {key}") for key, value in written.items()}
    of_environment = {
        keyword: Parameter(os.environ.get(variable, ""), variable) for keyword, variable in VARIABLES.items()
    }
    named = {**_present(of_environment), **_present(of_url)}
    service = named.get("service")
    of_service = _service(service.value, named.get("servicefile")) if service else {}
    return {**_present(of_environment), **_present(of_service), **_present(of_url)}


def _present(parameters: Mapping[str, Parameter]) -> dict[str, Parameter]:
    return {keyword: parameter for keyword, parameter in parameters.items() if parameter.value}


def _service(name: str, file: Parameter | None) -> dict[str, Parameter]:
    for path in [Path(file.value)] if file else _service_files():
        section = _section(path, name)
        if section is not None:
            return {key: Parameter(value, f"service {name}: {key}") for key, value in section.items()}
    raise StartupError(f"DATABASE_URL: service {name} is not defined; add it to ~/.pg_service.conf")


def _service_files() -> Iterator[Path]:
    with suppress(RuntimeError):
        yield Path.home() / ".pg_service.conf"
    if folder := os.environ.get("PGSYSCONFDIR"):
        yield Path(folder) / "pg_service.conf"


def _section(path: Path, name: str) -> dict[str, str] | None:
    # As in libpq: "=" alone separates, and "%" has no meaning.
    parser = ConfigParser(interpolation=None, delimiters=("=",), comment_prefixes=("#",), default_section="")
    try:
        parser.read(path, encoding="utf-8")
    except (ConfigError, OSError, UnicodeDecodeError) as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise StartupError(f"the service file {path} cannot be read: {first_line}") from None
    return dict(parser[name]) if parser.has_section(name) else None
