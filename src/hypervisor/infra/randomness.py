"""Randomness of the operating system: the source for jitter, and for ids that cannot be guessed."""

from __future__ import annotations

import random
import secrets

from hypervisor.kernel.randomness import Random


def system_random() -> Random:
    """Implements `hypervisor.kernel.randomness.Random`; safe to use after a fork."""
    return random.SystemRandom()


def random_hex(size: int) -> str:
    """`size` random bytes in hexadecimal."""
    return secrets.token_hex(size)


def random_code(alphabet: str, length: int) -> str:
    """A code of `length` characters of `alphabet`, each drawn alike."""
    return "".join(secrets.choice(alphabet) for _ in range(length))
