"""The parts of a libpq connection URI: `postgresql://user:password@host1:1,host2:2/dbname?keyword=value`.

https://www.postgresql.org/docs/current/libpq-connect.html, "Connection URIs". Names of drivers after a plus
sign are accepted. Differences: an unencoded "@" or "/" in a password is accepted where it is not ambiguous.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import unquote

from hypervisor.store.driver.refusals import refused

_INVALID_ESCAPE = re.compile(r"%(?![0-9a-fA-F]{2})")
_HOST_AND_PORT = re.compile(r"(?P<host>\[[^\]]*\]|[^:\[\]]*)(?::(?P<port>[^:]*))?")


def parse_uri(rest: str) -> dict[str, str]:
    """The keywords of a URI, given without `postgresql://`. `host` and `port` are lists with commas.

    Raises StartupError if it is not a connection URI.
    """
    login, location = _split_login(rest)
    location, _, query = location.partition("?")
    hosts, _, dbname = location.partition("/")
    user, _, password = login.partition(":")
    written = {"user": _decoded(user), "password": _decoded(password), "dbname": _decoded(dbname)}
    written |= _hosts(_host_list(hosts))
    found = {keyword: value for keyword, value in written.items() if value}
    return found | _parameters(query)


def _split_login(rest: str) -> tuple[str, str]:
    """The part before "@" and the part after it. In a password "?", "@" and "/" may be unencoded."""
    authority = rest.partition("/")[0]
    first = authority.find("@")
    if first >= 0:
        end = authority.find("?", first)
        last = authority.rfind("@", 0, end if end >= 0 else None)
        return rest[:last], rest[last + 1 :]
    before_query = rest.partition("?")[0]
    port = authority.partition(":")[2]
    if port and not port.isdecimal() and "," not in port and "@" in before_query:
        last = before_query.rfind("@")
        return rest[:last], rest[last + 1 :]
    return "", rest


def _host_list(text: str) -> list[tuple[str, str]]:
    """(host, port) of each host; "" for a missing host or port."""
    if not text:
        return []
    hosts = []
    for entry in text.split(","):
        match = _HOST_AND_PORT.fullmatch(entry)
        if match is None:
            raise refused("names an invalid host; write host:port, and an IPv6 address as [address]:port")
        hosts.append((_decoded(match["host"]).strip("[]"), _decoded(match["port"] or "")))
    return hosts


def _hosts(hosts: list[tuple[str, str]]) -> dict[str, str]:
    """The keywords `host` and `port`; empty without hosts."""
    ports = [port for _, port in hosts]
    return {
        "host": ",".join(host for host, _ in hosts),
        "port": ",".join(ports) if any(ports) else "",
    }


def _parameters(query: str) -> dict[str, str]:
    """The parameters after "?". Several `host` form a list; another keyword must not be repeated."""
    found: dict[str, str] = {}
    hosts: list[tuple[str, str]] = []
    for keyword, value in _pairs(query):
        if keyword == "host":
            hosts += _hosts_of_parameter(value)
        elif keyword in found:
            raise refused(f"has {keyword} twice; write it once")
        else:
            found[keyword] = value
    if not hosts:
        return found
    joined = {keyword: value for keyword, value in _hosts(hosts).items() if value}
    return joined | found


def _pairs(query: str) -> Iterator[tuple[str, str]]:
    for part in query.split("&") if query else ():
        keyword, equals, value = part.partition("=")
        if not equals:
            raise refused(f"has the parameter {_decoded(keyword)!r} without a value; write keyword=value")
        yield _decoded(keyword), _decoded(value)


def _hosts_of_parameter(value: str) -> Iterator[tuple[str, str]]:
    """The hosts of one `host` parameter, some of them with a port, as SQLAlchemy writes them."""
    for entry in value.split(","):
        if entry.startswith("/") or (entry.count(":") > 1 and not entry.startswith("[")):
            yield entry, ""
        else:
            yield from _host_list(entry) or [("", "")]


def _decoded(text: str) -> str:
    if _INVALID_ESCAPE.search(text):
        raise refused("has a % that is not followed by two hex digits; write %25 for a percent sign")
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise refused("has a percent-encoded text that is not UTF-8") from None
