"""The installation's secret and its derived keys, encryption and tokens."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import OctKey

from hypervisor.errors import StartupError
from hypervisor.infra.security.encryption import DecryptionError, Encryptor
from hypervisor.infra.security.secret_key import derive_key, load_secret_key
from hypervisor.infra.security.tokens import (
    AccessClaims,
    AccessTokens,
    AttemptClaims,
    AttemptTokens,
    InvalidToken,
)
from hypervisor.settings import Settings
from tests.support.clock import START

SECRET = b"0123456789abcdef0123456789abcdef"
CLAIMS = AccessClaims(user_id=7, session_id="s")


def _settings(folder: Path, **values: Any) -> Settings:
    return Settings(_env_file=None, data_dir=folder, **values)


def test_a_random_key_is_created_once_and_readable_only_by_its_owner(tmp_path: Path) -> None:
    first = load_secret_key(_settings(tmp_path / "data"))
    assert len(first) >= 64
    assert load_secret_key(_settings(tmp_path / "data")) == first
    assert (tmp_path / "data" / "secret.key").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["secret.key"]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "hypervisor.example.com"])
def test_without_a_secret_only_loopback_is_served(tmp_path: Path, host: str) -> None:
    with pytest.raises(StartupError, match="SECRET_KEY"):
        load_secret_key(_settings(tmp_path, host=host))
    assert load_secret_key(_settings(tmp_path, host=host, secret_key=SECRET.decode())) == SECRET


def test_a_damaged_key_file_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "secret.key").write_text("short")
    with pytest.raises(StartupError, match="damaged"):
        load_secret_key(_settings(tmp_path))


def test_decryption_needs_the_same_secret_and_purpose() -> None:
    encryptor = Encryptor(SECRET)
    ciphertext = encryptor.encrypt("grüße", "env")
    assert "grüße" not in ciphertext
    assert encryptor.encrypt("grüße", "env") != ciphertext
    assert Encryptor(SECRET).decrypt(ciphertext, "env") == "grüße"
    with pytest.raises(DecryptionError):
        encryptor.decrypt(ciphertext, "invite")
    with pytest.raises(DecryptionError, match=encryptor.key_id):
        Encryptor(b"another secret of enough length!").decrypt(ciphertext, "env")


@pytest.mark.parametrize(
    "damaged", ["", "v1.aa.bb", "plain text", "v1..", "v2.{id}.AAAA", "v1.{id}.A", "v1.{id}.ü"]
)
def test_a_damaged_ciphertext_is_refused(damaged: str) -> None:
    encryptor = Encryptor(SECRET)
    with pytest.raises(DecryptionError):
        encryptor.decrypt(damaged.format(id=encryptor.key_id), "env")


def test_an_access_token_is_valid_until_it_expires() -> None:
    tokens = AccessTokens(SECRET, timedelta(minutes=30))
    token = tokens.issue(CLAIMS, START)
    assert tokens.read(token, START + timedelta(minutes=29)) == CLAIMS
    with pytest.raises(InvalidToken):
        tokens.read(token, START + timedelta(minutes=31))
    with pytest.raises(InvalidToken):
        AccessTokens(b"another secret of enough length!", timedelta(minutes=30)).read(token, START)


@pytest.mark.parametrize("missing", ["exp", "iat", "iss", "aud", "sub", "jti", "sid"])
def test_a_token_without_a_required_claim_is_refused(missing: str) -> None:
    tokens = AccessTokens(SECRET, timedelta(minutes=30))
    key = OctKey.import_key(derive_key(SECRET, "access tokens"))
    claims = jwt.decode(tokens.issue(CLAIMS, START), key, algorithms=["HS256"]).claims
    del claims[missing]
    with pytest.raises(InvalidToken):
        tokens.read(jwt.encode({"alg": "HS256"}, claims, key), START)


ATTEMPT = AttemptClaims(deployment_id=7, attempt=2)
DAY = timedelta(hours=24)


def test_an_attempt_token_is_valid_until_it_expires() -> None:
    tokens = AttemptTokens(SECRET)
    token = tokens.issue(ATTEMPT, DAY, START)
    assert tokens.read(token, START + timedelta(hours=23)).claims == ATTEMPT
    with pytest.raises(InvalidToken):
        tokens.read(token, START + timedelta(hours=25))
    with pytest.raises(InvalidToken):
        AttemptTokens(b"another secret of enough length!").read(token, START)


def test_an_attempt_token_is_renewed_after_half_of_its_lifetime() -> None:
    tokens = AttemptTokens(SECRET)
    token = tokens.read(tokens.issue(ATTEMPT, DAY, START), START)
    assert token.renewal_lifetime(START + timedelta(hours=11)) is None
    assert token.renewal_lifetime(START + timedelta(hours=12)) == DAY


def test_access_and_attempt_tokens_do_not_pass_for_each_other() -> None:
    access, attempt = AccessTokens(SECRET, DAY), AttemptTokens(SECRET)
    with pytest.raises(InvalidToken):
        access.read(attempt.issue(ATTEMPT, DAY, START), START)
    with pytest.raises(InvalidToken):
        attempt.read(access.issue(CLAIMS, START), START)


@pytest.mark.parametrize("changed", [{"aud": "mlops-hypervisor-api"}, {"att": None}, {"exp": None}])
def test_an_attempt_token_with_other_claims_is_refused(changed: dict[str, str | None]) -> None:
    tokens = AttemptTokens(SECRET)
    key = OctKey.import_key(derive_key(SECRET, "attempt tokens"))
    claims = jwt.decode(tokens.issue(ATTEMPT, DAY, START), key, algorithms=["HS256"]).claims
    claims = {name: value for name, value in {**claims, **changed}.items() if value is not None}
    with pytest.raises(InvalidToken):
        tokens.read(jwt.encode({"alg": "HS256"}, claims, key), START)


def test_another_algorithm_is_refused() -> None:
    key = OctKey.import_key(derive_key(SECRET, "access tokens") * 2)
    token = jwt.encode({"alg": "HS512"}, {"sub": "7"}, key, algorithms=["HS512"])
    with pytest.raises(InvalidToken):
        AccessTokens(SECRET, timedelta(minutes=30)).read(token, START)
