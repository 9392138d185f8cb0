"""The proxy of a server, from HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY.

A client has one server, so one proxy or none. Errors can then name the proxy.
"""

from __future__ import annotations

import os
from contextlib import suppress
from ipaddress import ip_address, ip_network
from urllib.request import getproxies, proxy_bypass

import httpx2

from hypervisor.client.checkpoint import is_loopback
from hypervisor.client.errors import ClientError

HTTP_SCHEMES = ("http", "https")
SOCKS_SCHEMES = ("socks5", "socks5h")


def open_http(url: str, timeout: httpx2.Timeout) -> tuple[httpx2.Client, str | None]:
    """A client for the server, and the proxy that it uses, printable, or None.

    Raises ClientError for proxy variables and certificate files that cannot be used.
    """
    variable, proxy = proxy_of(httpx2.URL(url))
    try:
        # A given transport keeps the client from reading the proxy variables again.
        # Plain HTTP never needs the certificates, which take long to load.
        transport = httpx2.HTTPTransport(proxy=proxy, verify=url.startswith("https:"))
    except ImportError:
        raise ClientError(
            f"{variable} names a SOCKS proxy, which needs the package socksio: install it with "
            f"`pip install 'httpx2[socks]'`, or unset {variable}"
        ) from None
    except OSError as error:
        file = os.environ.get("SSL_CERT_FILE")
        if not file:
            raise
        raise ClientError(
            f"SSL_CERT_FILE={file} has no certificates that can be read ({error.strerror or error}): "
            "correct it, or unset it"
        ) from None
    client = httpx2.Client(base_url=url, timeout=timeout, follow_redirects=False, transport=transport)
    return client, None if proxy is None else f"{_printable(proxy)} ({variable})"


def proxy_of(url: httpx2.URL) -> tuple[str, httpx2.Proxy | None]:
    """The variable that names a proxy for the URL, and the proxy; None where a connection is direct.

    Raises ClientError for a value that is not the URL of a proxy.
    """
    proxies = getproxies()
    scheme = next((name for name in (url.scheme, "all") if proxies.get(name)), None)
    if scheme is None or is_loopback(url.netloc.decode("ascii")) or _is_bypassed(url, proxies):
        return "", None
    return f"{scheme.upper()}_PROXY", _parse(f"{scheme.upper()}_PROXY", proxies[scheme])


def _is_bypassed(url: httpx2.URL, proxies: dict[str, str]) -> bool:
    """Whether NO_PROXY has the host: by name, by the end of its name, or by address or network."""
    port = f":{url.port}" if url.port else ""
    host = f"[{url.host}]" if ":" in url.host else url.host
    if proxy_bypass(f"{host}{port}", proxies) or proxy_bypass(url.host, proxies):
        return True
    with suppress(ValueError):
        address = ip_address(url.host)
        return any(_has(entry.strip(), address) for entry in proxies.get("no", "").split(","))
    return False


def _has(entry: str, address: object) -> bool:
    with suppress(ValueError):
        return address in ip_network(entry.strip("[]"), strict=False)
    return False


def _parse(variable: str, value: str) -> httpx2.Proxy:
    text = value.strip() if "://" in value else f"http://{value.strip()}"
    try:
        proxy = httpx2.Proxy(text)
        is_host = bool(proxy.url.host) and "%" not in proxy.url.host
        valid = is_host and proxy.url.scheme in (*HTTP_SCHEMES, *SOCKS_SCHEMES)
    except (httpx2.InvalidURL, ValueError, TypeError):
        valid = False
    if not valid or not 0 <= (proxy.url.port or 0) <= 65535:
        # Not the value, which may have a password.
        raise ClientError(
            f"{variable} is not the URL of a proxy: write http://HOST:PORT, or unset {variable}"
        )
    return proxy


def _printable(proxy: httpx2.Proxy) -> str:
    """The URL without user and password, which `httpx2.Proxy` holds apart."""
    return str(proxy.url)
