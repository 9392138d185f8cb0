"""What asyncpg can do with each parameter of libpq: translated, limited to some values, or refused.

The keywords are those of https://www.postgresql.org/docs/current/libpq-connect.html, "Parameter Key Words".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from hypervisor.errors import StartupError
from hypervisor.store.driver.libpq_defaults import Parameter

_REMOVE = "remove it"
_WRITES = "the server needs a database that it can write to: write read-write or primary"

ALIASES: Mapping[str, str] = {"database": "dbname", "ssl": "sslmode", "requiressl": "sslmode"}
"""Other names of keywords: of drivers, and of old versions of libpq."""
_SSL_SWITCHES = {"true": "require", "1": "require", "on": "require", "false": "disable", "0": "prefer"}

TRANSLATED = frozenset(
    {
        *("user", "password", "passfile", "dbname", "host", "hostaddr", "port", "service", "servicefile"),
        *("options", "application_name", "fallback_application_name", "connect_timeout"),
        *("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout"),
        *("sslcert", "sslkey", "sslpassword", "sslrootcert", "sslcrl", "krbsrvname", "gsslib"),
        # Parameters of the driver.
        *("command_timeout", "prepared_statement_cache_size", "direct_tls"),
    }
)
FILES = ("sslcert", "sslkey", "sslrootcert", "sslcrl", "passfile")
"""Parameters that name a file, which must exist."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The values that are accepted, and what to do instead of another one."""

    values: tuple[str, ...]
    advice: str


_TLS_VERSIONS = Choice(("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"), "write TLSv1, TLSv1.1, TLSv1.2 or TLSv1.3")
CHOICES: Mapping[str, Choice] = {
    "sslmode": Choice(
        ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
        "write disable, allow, prefer, require, verify-ca or verify-full",
    ),
    "sslnegotiation": Choice(("postgres", "direct"), "write postgres or direct"),
    "ssl_min_protocol_version": _TLS_VERSIONS,
    "ssl_max_protocol_version": _TLS_VERSIONS,
    "target_session_attrs": Choice(("any", "read-write", "primary"), _WRITES),
    "channel_binding": Choice(
        ("prefer", "disable"),
        "remove it, and let sslmode=verify-full with sslrootcert check the server",
    ),
    "client_encoding": Choice(
        ("auto", "UTF8", "utf8", "UTF-8", "utf-8", "UNICODE", "unicode"),
        "the server always uses UTF8: remove it",
    ),
    "gssencmode": Choice(("disable", "prefer"), "remove it, and encrypt with sslmode=require"),
    "gssdelegation": Choice(("0",), _REMOVE),
    "sslcompression": Choice(("0",), _REMOVE),
    "sslsni": Choice(("1",), _REMOVE),
    "sslcertmode": Choice(("allow",), "remove it, and name the certificate with sslcert"),
    "load_balance_hosts": Choice(("disable",), "remove it: hosts are tried in the order in which they stand"),
    "replication": Choice(("false", "off", "no", "0"), _REMOVE),
    "min_protocol_version": Choice(("3.0",), _REMOVE),
    "max_protocol_version": Choice(("3.0", "3.2", "latest"), _REMOVE),
    "pgbouncer": Choice(
        ("false",),
        "remove it, and write the address of PostgreSQL itself: transaction pooling drops LISTEN and the "
        "time-outs of sessions",
    ),
}
REFUSED: Mapping[str, str] = {
    "require_auth": "remove it, and let sslmode=verify-full with sslrootcert check the server",
    "requirepeer": "remove it, and use a socket in a folder that only the server can write to",
    "sslcrldir": "put the revocation lists into one file and name it with sslcrl",
    "sslkeylogfile": _REMOVE,
    "scram_client_key": "write the password",
    "scram_server_key": "write the password",
    "oauth_issuer": "use a password or a client certificate",
    "oauth_client_id": "use a password or a client certificate",
    "oauth_client_secret": "use a password or a client certificate",
    "oauth_scope": "use a password or a client certificate",
    # Not of libpq, but common in URLs for other clients.
    "schema": "write options=-csearch_path%3DNAME",
    "search_path": "write options=-csearch_path%3DNAME",
    "currentSchema": "write options=-csearch_path%3DNAME",
    "sslaccept": "write sslmode=require, or verify-full with sslrootcert",
    "connection_limit": f"{_REMOVE}: the pool has 10 connections, and 5 more under load",
    "pool_timeout": _REMOVE,
    "statement_cache_size": "write prepared_statement_cache_size",
}


def check(parameters: Mapping[str, Parameter]) -> dict[str, Parameter]:
    """The parameters by their libpq names. Raises StartupError for the first one that is refused."""
    renamed = dict(_renamed(parameters))
    for keyword, parameter in renamed.items():
        if keyword in REFUSED:
            raise _refused(f"{parameter.place} is not supported", REFUSED[keyword])
        if keyword in CHOICES:
            _check_choice(parameter, CHOICES[keyword])
        elif keyword not in TRANSLATED:
            raise _unknown(keyword, parameter)
        if keyword in FILES and (keyword, parameter.value) != ("sslrootcert", "system"):
            _check_file(parameter)
    return renamed


def _renamed(parameters: Mapping[str, Parameter]) -> Iterator[tuple[str, Parameter]]:
    for keyword, parameter in parameters.items():
        if keyword not in ALIASES:
            yield keyword, parameter
            continue
        known = ALIASES[keyword]
        given = parameters.get(known)
        if given is not None and given.place.startswith("DATABASE_URL"):
            raise _refused(f"{parameter.place} is the same as {known}", "write one of the two")
    for keyword, parameter in parameters.items():
        if keyword in ALIASES:
            value = parameter.value
            switched = _SSL_SWITCHES.get(value, value) if ALIASES[keyword] == "sslmode" else value
            yield ALIASES[keyword], Parameter(switched, parameter.place)


def _check_choice(parameter: Parameter, choice: Choice) -> None:
    if parameter.value not in choice.values:
        raise _refused(f"{parameter.place}={parameter.value} is not supported", choice.advice)


def _check_file(parameter: Parameter) -> None:
    try:
        with Path(parameter.value).open("rb"):
            return
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise _refused(
            f"{parameter.place}: {parameter.value} cannot be read ({reason})", "name a readable file"
        ) from None


def _unknown(keyword: str, parameter: Parameter) -> StartupError:
    known = sorted({*TRANSLATED, *CHOICES})
    similar = get_close_matches(keyword, known, n=1)
    place = parameter.place.removesuffix(keyword)
    advice = f"did you mean {similar[0]}?" if similar else _REMOVE
    return _refused(f"{place}the parameter {keyword!r} is unknown", advice)


def _refused(reason: str, advice: str) -> StartupError:
    return StartupError(f"{reason}; {advice}")
