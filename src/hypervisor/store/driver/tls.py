"""TLS of a connection to PostgreSQL: the ssl* parameters of libpq as arguments of asyncpg."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from hypervisor.errors import StartupError
from hypervisor.store.driver.libpq_defaults import Parameter

_KEYWORDS = (
    *("sslmode", "sslnegotiation", "sslcert", "sslkey", "sslpassword", "sslrootcert", "sslcrl"),
    *("ssl_min_protocol_version", "ssl_max_protocol_version"),
)
SYSTEM = "system"
"""The value of `sslrootcert` for the certificates that the operating system trusts."""


def tls_arguments(parameters: Mapping[str, Parameter]) -> dict[str, Any]:
    """A DSN, because the driver takes files of certificates only from one. Raises StartupError."""
    values = {name: parameters[name].value for name in _KEYWORDS if name in parameters}
    if "direct_tls" in parameters:
        direct = parameters["direct_tls"].value in ("1", "true")
        values["sslnegotiation"] = "direct" if direct else "postgres"
    if values.get("sslnegotiation") == "direct" and values.get("sslmode") in (
        None,
        "disable",
        "allow",
        "prefer",
    ):
        raise StartupError(
            "DATABASE_URL: sslnegotiation=direct needs TLS; write sslmode=require or verify-full"
        )
    if values.get("sslrootcert") == SYSTEM:
        return _trusting_the_system(values)
    if values.get("sslmode") in ("verify-ca", "verify-full") and "sslrootcert" not in values:
        values["sslrootcert"] = _default_root(parameters["sslmode"])
    _check_pair(values)
    return {"dsn": f"postgresql://?{urlencode(values)}"} if values else {}


def _trusting_the_system(values: Mapping[str, str]) -> dict[str, Any]:
    if values.get("sslmode", "verify-full") != "verify-full":
        raise StartupError("DATABASE_URL: sslrootcert=system needs sslmode=verify-full; write both")
    context = ssl.create_default_context()
    context.set_alpn_protocols(["postgresql"])
    context.minimum_version = _version(values.get("ssl_min_protocol_version", "TLSv1.2"))
    if "ssl_max_protocol_version" in values:
        context.maximum_version = _version(values["ssl_max_protocol_version"])
    if "sslcert" in values:
        _load_pair(context, values)
    return {"ssl": context, "direct_tls": values.get("sslnegotiation") == "direct"}


def _version(name: str) -> ssl.TLSVersion:
    return ssl.TLSVersion[name.replace(".", "_")]


def _default_root(mode: Parameter) -> str:
    """libpq's default of `sslrootcert`."""
    try:
        path = Path.home() / ".postgresql" / "root.crt"
    except RuntimeError:
        path = None
    if path is None or not path.is_file():
        raise StartupError(
            f"{mode.place}={mode.value} needs the certificate of the server's authority; "
            "write sslrootcert=FILE, or sslrootcert=system for a public authority"
        )
    return str(path)


def _check_pair(values: Mapping[str, str]) -> None:
    """Load certificate and key once: a wrong pair or password is an error of the configuration."""
    if "sslcert" in values and values.get("sslmode") != "disable":
        _load_pair(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), values)


def _load_pair(context: ssl.SSLContext, values: Mapping[str, str]) -> None:
    key = values.get("sslkey") or _default_key()
    try:
        context.load_cert_chain(values["sslcert"], key, lambda: values.get("sslpassword", ""))
    except (OSError, ValueError):
        raise StartupError(
            "DATABASE_URL: sslcert and sslkey do not fit together; name a certificate and its key in PEM "
            "form, and the password of an encrypted key with sslpassword"
        ) from None


def _default_key() -> str | None:
    """libpq's default of `sslkey`, if it exists; without one, the file of the certificate holds the key."""
    try:
        path = Path.home() / ".postgresql" / "postgresql.key"
    except RuntimeError:
        return None
    return str(path) if path.exists() else None
