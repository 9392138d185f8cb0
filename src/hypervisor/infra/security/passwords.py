"""Password hashes (Argon2id) and the rules for new passwords."""

from __future__ import annotations

import secrets
from importlib import resources

import anyio.to_thread
import bcrypt
from anyio import CapacityLimiter
from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from hypervisor.kernel.text import fold

MIN_LENGTH = 8
MAX_LENGTH = 128
BCRYPT_BYTES = 72
"""bcrypt uses only these bytes. Other programs cut longer passwords silently, so `_fits` cuts them too."""

_HASHER = PasswordHasher(time_cost=1, memory_cost=47104, parallelism=1)
_BCRYPT_PREFIXES = ("$2a$", "$2b$", "$2y$")


class Passwords:
    """Hashes and verifies in threads, at most `concurrency` at a time: each takes 46 MiB."""

    def __init__(self, concurrency: int = 4) -> None:
        self._limiter = CapacityLimiter(concurrency)
        # Created here, not on first use: the first unknown username must not take longer than the others.
        self._decoy = _HASHER.hash(secrets.token_hex())

    async def hash(self, password: str) -> str:
        return await anyio.to_thread.run_sync(_HASHER.hash, password, limiter=self._limiter)

    async def verify(self, password: str, stored: str | None) -> bool:
        """Whether the password fits the stored hash. None (no such user) takes equally long and is False."""
        reference = stored if stored is not None else self._decoy
        fits = await anyio.to_thread.run_sync(_fits, password, reference, limiter=self._limiter)
        return fits and stored is not None

    def needs_rehash(self, stored: str) -> bool:
        """Whether a hash uses another algorithm or weaker parameters than new hashes."""
        return stored.startswith(_BCRYPT_PREFIXES) or _HASHER.check_needs_rehash(stored)


def weakness(password: str, *, names: tuple[str, ...] = ()) -> str | None:
    """Why this password is refused, as a sentence, or None. `names`: the user's username and address."""
    if len(password) < MIN_LENGTH:
        return f"The password must have at least {MIN_LENGTH} characters."
    if len(password) > MAX_LENGTH:
        return f"The password must have at most {MAX_LENGTH} characters."
    folded = fold(password)
    if len(set(folded)) == 1 or folded in _COMMON:
        return "This password is too common; choose another."
    if folded in {fold(name) for name in names}:
        return "The password must not be your username or email address."
    return None


def _fits(password: str, stored: str) -> bool:
    if stored.startswith(_BCRYPT_PREFIXES):
        return bcrypt.checkpw(password.encode()[:BCRYPT_BYTES], stored.encode())
    try:
        return _HASHER.verify(stored, password)
    except (Argon2Error, InvalidHashError):
        return False


def _load_common() -> frozenset[str]:
    text = (resources.files("hypervisor.infra.security") / "common_passwords.txt").read_text("utf-8")
    return frozenset(fold(line) for line in text.splitlines() if line)


_COMMON = _load_common()
