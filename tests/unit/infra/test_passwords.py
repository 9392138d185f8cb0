"""Password hashes, and the rules for new passwords."""

from __future__ import annotations

import bcrypt
import pytest

from hypervisor.infra.security.passwords import Passwords, weakness

LONG = "a password of more than seventy-two bytes, of which bcrypt uses only the first part"


async def test_hashes_are_argon2id_with_the_configured_cost() -> None:
    stored = await Passwords().hash("a quiet harbour")
    assert stored.startswith("$argon2id$v=19$m=47104,t=1,p=1$")
    assert await Passwords().verify("a quiet harbour", stored)
    assert not await Passwords().verify("a loud harbour", stored)
    assert not Passwords().needs_rehash(stored)


@pytest.mark.parametrize("password", ["a quiet harbour", LONG])
@pytest.mark.parametrize("prefix", [b"2a", b"2b"])
async def test_bcrypt_hashes_are_accepted_and_marked_for_replacement(password: str, prefix: bytes) -> None:
    stored = bcrypt.hashpw(password.encode()[:72], bcrypt.gensalt(4, prefix=prefix)).decode()
    assert await Passwords().verify(password, stored)
    assert not await Passwords().verify("another", stored)
    assert Passwords().needs_rehash(stored)


@pytest.mark.parametrize("stored", [None, "", "not a hash", "$argon2id$broken"])
async def test_no_password_matches_a_missing_or_damaged_hash(stored: str | None) -> None:
    assert not await Passwords().verify("any password", stored)


@pytest.mark.parametrize(
    "password", ["short", "x" * 129, "password", "PASSWORD1", "Qwertyuiop", "zzzzzzzzzz", "Ada.Byron"]
)
def test_weak_passwords_are_refused(password: str) -> None:
    assert weakness(password, names=("ada.byron",))


@pytest.mark.parametrize(
    "password", ["eight ch", "x1" * 64, "только буквы", "passwords are fun", "🐴🔋📎🐴🔋📎🐴🔋"]
)
def test_other_passwords_need_no_special_characters(password: str) -> None:
    assert weakness(password, names=("ada",)) is None
