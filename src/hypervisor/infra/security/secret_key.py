"""The secret of an installation, and the keys derived from it."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from hypervisor.errors import StartupError
from hypervisor.settings import Settings

KEY_BYTES = 32
FILE_NAME = "secret.key"


def load_secret_key(settings: Settings) -> bytes:
    """SECRET_KEY, or the random key in DATA_DIR, which is created on first use.

    Raises StartupError when SECRET_KEY is unset and HOST is reachable from other machines, or when the key
    file cannot be written or is damaged.
    """
    if settings.secret_key is not None:
        return settings.secret_key.get_secret_value().encode()
    if not settings.binds_loopback_only:
        raise StartupError(
            f"HOST={settings.host} is reachable from other machines, so SECRET_KEY must be set: "
            "create one with `openssl rand -hex 32`, or use HOST=127.0.0.1"
        )
    return _stored_key(settings.data_dir / FILE_NAME)


def existing_secret_key(settings: Settings) -> bytes:
    """`load_secret_key` without the creation: a command on an installation must not invent its key.

    Raises StartupError also when there is no key.
    """
    path = settings.data_dir / FILE_NAME
    if settings.secret_key is None and not path.exists():
        raise StartupError(
            f"SECRET_KEY is not set and {path} does not exist: set SECRET_KEY, or DATA_DIR to the folder "
            "with secret.key, as for the server"
        )
    return load_secret_key(settings)


def derive_key(secret: bytes, purpose: str) -> bytes:
    """A 256-bit key for one purpose (HKDF-SHA256, RFC 5869). One key reveals nothing about the others."""
    hkdf = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=f"hypervisor/{purpose}".encode())
    return hkdf.derive(secret)


def _stored_key(path: Path) -> bytes:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            _create(path)
        key = path.read_bytes().strip()
    except OSError as error:
        raise StartupError(
            f"{path}: {error.strerror}; set SECRET_KEY, or set DATA_DIR to a writable folder"
        ) from None
    if len(key) < KEY_BYTES:
        raise StartupError(
            f"{path} is damaged: it must hold at least {KEY_BYTES} characters; restore it from a backup"
        )
    return key


def _create(path: Path) -> None:
    """Write a new key and link it into place: two processes that start at once end up with the same key."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            return
    finally:
        draft.unlink()
