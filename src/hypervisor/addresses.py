"""Addresses to listen on, and hosts as part of a URL. Standard library only."""

from __future__ import annotations

import re
import socket
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

Address = IPv4Address | IPv6Address

_HOST_NAME = re.compile(r"[^\s\[\]/:@?#%\\]{1,253}")
_ANY_DESTINATION = ("198.51.100.1", 9)
"""An address of TEST-NET-2 (RFC 5737). It stands for any other machine; nothing is sent."""


def check_host(text: str) -> str:
    """An address or a host name to listen on. Raises ValueError with advice for other text."""
    host = text.strip()
    if not host:
        raise ValueError("is empty; write 127.0.0.1 for this machine only, or :: for all addresses")
    if "/" in host:
        raise ValueError(f"is a URL or a path; write the address alone, for example {_host_of(host)}")
    bare = host.removeprefix("[").removesuffix("]")
    if bare != host and parse_address(bare) is not None:
        raise ValueError(f"write the address without brackets: {bare}")
    if parse_address(host) is None and ":" in host:
        raise ValueError("is not an address; write the port as PORT or --port, not in HOST")
    if parse_address(host) is None and not _HOST_NAME.fullmatch(host):
        raise ValueError("is neither an address nor a host name")
    return host


def parse_address(host: str) -> Address | None:
    """The address, or None for a host name. An IPv4 address in IPv6 form becomes an IPv4 address."""
    try:
        address = ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def resolve(host: str) -> list[Address]:
    """The addresses of HOST, in the order of the resolver. Raises OSError (gaierror) for an unknown name."""
    address = parse_address(host)
    if address is not None:
        return [address]
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(ip_address(sockaddr[0]) for *_, sockaddr in found))


def listen_addresses(host: str) -> list[Address]:
    """The addresses to listen on: both families for `::`. Raises OSError for an unknown name.

    There is one socket for each family: on a socket with both, IPv4 clients have addresses like
    `::ffff:192.0.2.1`, which rate limits and trusted proxies do not match.
    """
    addresses = resolve(host)
    if addresses == [IPv6Address("::")]:
        return [*addresses, IPv4Address("0.0.0.0")]  # noqa: S104
    return addresses


def is_loopback_only(host: str) -> bool:
    """Whether only this machine reaches the host. False for a name that does not resolve."""
    with suppress(OSError):
        return all(address.is_loopback for address in resolve(host))
    return False


def local_host(host: str) -> str:
    """A host for URLs that reach, from this machine, a server that listens on `host`."""
    addresses: list[Address] = []
    with suppress(OSError):
        addresses = resolve(host)
    if any(address.is_unspecified for address in addresses):
        return "127.0.0.1"
    return url_host(host)


def url_host(host: str) -> str:
    """The host as part of a URL: IPv6 addresses in brackets, with an escaped zone (RFC 6874)."""
    address = parse_address(host)
    text = host if address is None else str(address)
    return f"[{text.replace('%', '%25')}]" if ":" in text else text


def network_host(host: str, peer: str | None = None) -> str | None:
    """A host for URLs with which other machines and containers reach a server that listens on `host`.

    For a server on all addresses it is the address that a connection to `peer` has (an IPv4 address, else
    any machine). None: the server listens on loopback addresses only.
    """
    try:
        addresses = resolve(host)
    except OSError:
        return None
    if any(address.is_unspecified for address in addresses):
        return source_address(peer)
    others = [address for address in addresses if not address.is_loopback]
    return url_host(str(others[0])) if others else None


def source_address(peer: str | None = None) -> str | None:
    """The IPv4 address of this machine towards `peer`, an IPv4 address, else towards other networks.

    None: the machine has no route.
    """
    address = parse_address(peer or "")
    usable = isinstance(address, IPv4Address) and not address.is_loopback
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, suppress(OSError):
        probe.connect((str(address), 9) if usable else _ANY_DESTINATION)
        return str(probe.getsockname()[0])
    return None


def _host_of(url: str) -> str:
    with suppress(ValueError):
        return urlsplit(url if "//" in url else f"//{url}").hostname or "127.0.0.1"
    return "127.0.0.1"
