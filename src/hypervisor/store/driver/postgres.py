"""A PostgreSQL database: a checked URL as arguments of asyncpg, and connections to its hosts."""

from __future__ import annotations

import getpass
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg  # type: ignore[import-untyped]

from hypervisor.errors import StartupError
from hypervisor.store.driver.errors import DatabaseUnreachable
from hypervisor.store.driver.libpq_defaults import Parameter, collect
from hypervisor.store.driver.libpq_keywords import check
from hypervisor.store.driver.libpq_url import parse_uri
from hypervisor.store.driver.numbers import port, seconds, whole_number
from hypervisor.store.driver.pgpass import default_file, stored_password
from hypervisor.store.driver.tcp import connection_class, socket_options
from hypervisor.store.driver.tls import tls_arguments

CONNECT_TIMEOUT_SECONDS = 10.0
OWN_SETTINGS = ("idle_in_transaction_session_timeout", "statement_timeout", "lock_timeout")
"""Settings that the server needs in each session, so `options` must not have them."""

_PASSED = {
    "user": "user",
    "password": "password",
    "dbname": "database",
    "krbsrvname": "krbsrvname",
    "gsslib": "gsslib",
    "target_session_attrs": "target_session_attrs",
}
_TRY_NEXT_HOST = (OSError, asyncpg.CannotConnectNowError, asyncpg.TargetServerAttributeNotMatched)

Host = tuple[str | None, int]
"""A host name, an address or the folder of a socket (None: the driver's default), and a port."""


@dataclass(frozen=True, slots=True)
class PostgresTarget:
    """Where and how to connect."""

    hosts: tuple[Host, ...]
    options: Mapping[str, Any] = field(repr=False)
    """Arguments of `asyncpg.connect`."""
    session: Mapping[str, str]
    """Settings of each session."""
    timeout: float
    """Seconds for the connection to one host."""
    statement_cache: int | None
    passfile: Path | None

    async def connect(self, settings: Mapping[str, str] | None = None, **options: Any) -> Any:
        """A connection to the first host that accepts it; `settings` are added to those of the session.

        Raises DatabaseUnreachable with the reason of the last host.
        """
        arguments = {**self.options, **options, "server_settings": {**self.session, **(settings or {})}}
        failure: BaseException | None = None
        for host, number in self.hosts:
            secret = self._stored_password(host, number)
            try:
                return await asyncpg.connect(
                    host=host, port=number, timeout=self.timeout, **{**arguments, **secret}
                )
            except _TRY_NEXT_HOST as error:
                failure = error
            except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                failure = error
                break
        reason = str(failure) or f"no answer within {self.timeout:g} s"
        raise DatabaseUnreachable(reason) from failure

    def _stored_password(self, host: str | None, number: int) -> dict[str, str]:
        """The password as an argument; empty without one. The file is read for each connection."""
        if "password" in self.options or self.passfile is None:
            return {}
        user = self.options.get("user") or getpass.getuser()
        password = stored_password(self.passfile, host, number, self.options.get("database") or user, user)
        return {} if password is None else {"password": password}

    def __str__(self) -> str:
        """The target as a URL, without its password."""
        secret = ":***" if "password" in self.options else ""
        user = self.options.get("user", "")
        login = f"{user}{secret}@" if user or secret else ""
        sockets = [host for host, _ in self.hosts if host and host.startswith("/")]
        hosts = "" if sockets else ",".join(_shown(host, number) for host, number in self.hosts)
        return f"postgresql://{login}{hosts}/{self.options.get('database', '')}" + (
            f"?host={','.join(sockets)}" if sockets else ""
        )


def postgres_target(rest: str) -> PostgresTarget:
    """The target of the URL `postgresql://<rest>`. Raises StartupError."""
    parameters = check(collect(parse_uri(rest)))
    hosts = tuple(_hosts(parameters))
    options: dict[str, Any] = {
        argument: parameters[name].value for name, argument in _PASSED.items() if name in parameters
    }
    _check_user(options)
    if len(hosts) > 1:
        options.setdefault("target_session_attrs", "read-write")
    options |= tls_arguments(parameters)
    options["connection_class"] = connection_class(socket_options(parameters))
    if limit := parameters.get("command_timeout"):
        options["command_timeout"] = seconds(limit, CONNECT_TIMEOUT_SECONDS)
    timeout, cache = parameters.get("connect_timeout"), parameters.get("prepared_statement_cache_size")
    return PostgresTarget(
        hosts=hosts,
        options=options,
        session=_session_settings(parameters),
        timeout=seconds(timeout, CONNECT_TIMEOUT_SECONDS) if timeout else CONNECT_TIMEOUT_SECONDS,
        statement_cache=whole_number(cache) if cache else None,
        passfile=Path(parameters["passfile"].value) if "passfile" in parameters else default_file(),
    )


def _hosts(parameters: Mapping[str, Parameter]) -> Iterator[Host]:
    """Each host with its port; a single port is for all hosts."""
    if "host" in parameters and "hostaddr" in parameters:
        raise StartupError(
            f"{parameters['hostaddr'].place} beside host is not supported; write one of the two"
        )
    given = parameters.get("host") or parameters.get("hostaddr")
    hosts = given.value.split(",") if given else [""]
    listed = parameters.get("port", Parameter("", "DATABASE_URL: port"))
    ports = listed.value.split(",")
    if len(ports) == 1:
        ports *= len(hosts)
    if len(ports) != len(hosts):
        raise StartupError(
            f"{listed.place} has {len(ports)} ports for {len(hosts)} hosts; write one, or one for each host"
        )
    for host, number in zip(hosts, ports, strict=True):
        if host.startswith("@"):
            raise StartupError(
                "DATABASE_URL: abstract sockets are not supported; write the folder of a socket"
            )
        yield host.strip() or None, port(number.strip(), listed.place)


def _check_user(options: Mapping[str, Any]) -> None:
    if "user" in options:
        return
    try:
        getpass.getuser()
    except (KeyError, OSError):
        raise StartupError("DATABASE_URL names no user; write postgresql://USER@host/db") from None


def _session_settings(parameters: Mapping[str, Parameter]) -> dict[str, str]:
    name = parameters.get("application_name") or parameters.get("fallback_application_name")
    settings = {"application_name": name.value if name else "hypervisor"}
    if options := parameters.get("options"):
        for own in OWN_SETTINGS:
            if own in options.value:
                raise StartupError(f"{options.place} has {own}; remove it, because the server sets it")
        settings["options"] = options.value
    return settings


def _shown(host: str | None, number: int) -> str:
    if host is None:
        return "" if number == 5432 else f":{number}"
    return f"[{host}]:{number}" if ":" in host else f"{host}:{number}"
