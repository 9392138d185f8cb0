"""Tokens: access (signed, short-lived), refresh (random, kept hashed), attempt (signed, for one run)."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey
from joserfc.jwt import ClaimsOption, JWTClaimsRegistry

from hypervisor.infra.security.secret_key import derive_key

ALGORITHM = "HS256"
ISSUER = "mlops-hypervisor"
AUDIENCE = "mlops-hypervisor-api"
ATTEMPT_AUDIENCE = "mlops-hypervisor-attempt"
CLOCK_SKEW_SECONDS = 5
SIGNATURES_REMEMBERED = 2048


class InvalidToken(Exception):
    """Not a token of ours for this purpose, or one that is over."""


@dataclass(frozen=True, slots=True)
class AccessClaims:
    user_id: int
    session_id: str


class AccessTokens:
    """Issues and reads JWTs with one pinned algorithm; roles are never in a token."""

    def __init__(self, secret: bytes, lifetime: timedelta) -> None:
        self._key = OctKey.import_key(derive_key(secret, "access tokens"))
        self.lifetime = lifetime
        # Whether we signed it never changes; whether it is over is looked at each time.
        self._claims_of = lru_cache(SIGNATURES_REMEMBERED)(self._verified_claims)

    def issue(self, claims: AccessClaims, now: datetime) -> str:
        payload = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": str(claims.user_id),
            "sid": claims.session_id,
            "jti": secrets.token_hex(16),
            "iat": int(now.timestamp()),
            "exp": int((now + self.lifetime).timestamp()),
        }
        return jwt.encode({"alg": ALGORITHM}, payload, self._key, algorithms=[ALGORITHM])

    def read(self, token: str, now: datetime) -> AccessClaims:
        """Raises InvalidToken for anything but a current token that we signed."""
        try:
            claims = self._claims_of(token)
            _registry(now, AUDIENCE, "sid").validate(claims)
            return AccessClaims(user_id=int(claims["sub"]), session_id=str(claims["sid"]))
        except (JoseError, ValueError) as error:
            raise InvalidToken(str(error)) from None

    def _verified_claims(self, token: str) -> dict[str, Any]:
        return jwt.decode(token, self._key, algorithms=[ALGORITHM]).claims


@dataclass(frozen=True, slots=True)
class AttemptClaims:
    """One run of a deployment: all replicas of a gang share its number."""

    deployment_id: int
    attempt: int


@dataclass(frozen=True, slots=True)
class AttemptToken:
    """A token as it was read back."""

    claims: AttemptClaims
    issued_at: datetime
    expires_at: datetime

    def lifetime_if_ageing(self, now: datetime) -> timedelta | None:
        """How long the next one should live where half of this one's life is over, else None."""
        lifetime = self.expires_at - self.issued_at
        return lifetime if now - self.issued_at >= lifetime / 2 else None


class AttemptTokens:
    """What a workload is given to report about itself, and nothing else.

    Key and audience are not those of access tokens: neither passes for the other. Whether the attempt is
    still live is for the caller to check.
    """

    def __init__(self, secret: bytes) -> None:
        self._key = OctKey.import_key(derive_key(secret, "attempt tokens"))

    def issue(self, claims: AttemptClaims, lifetime: timedelta, now: datetime) -> str:
        payload = {
            "iss": ISSUER,
            "aud": ATTEMPT_AUDIENCE,
            "sub": str(claims.deployment_id),
            "att": claims.attempt,
            "jti": secrets.token_hex(16),
            "iat": int(now.timestamp()),
            "exp": int((now + lifetime).timestamp()),
        }
        return jwt.encode({"alg": ALGORITHM}, payload, self._key, algorithms=[ALGORITHM])

    def read(self, token: str, now: datetime) -> AttemptToken:
        """Raises InvalidToken for anything but a current attempt token that we signed."""
        try:
            claims = jwt.decode(token, self._key, algorithms=[ALGORITHM]).claims
            _registry(now, ATTEMPT_AUDIENCE, "att").validate(claims)
            return AttemptToken(
                AttemptClaims(deployment_id=int(claims["sub"]), attempt=int(claims["att"])),
                issued_at=datetime.fromtimestamp(claims["iat"], UTC),
                expires_at=datetime.fromtimestamp(claims["exp"], UTC),
            )
        except (JoseError, ValueError) as error:
            raise InvalidToken(str(error)) from None


def new_secret() -> str:
    """256 random bits for a refresh token, safe in URLs and headers."""
    return secrets.token_urlsafe(32)


def hash_secret(secret: str) -> str:
    """How random secrets are stored. A plain hash is enough: they have no dictionary to try."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _registry(now: datetime, audience: str, subject_part: str) -> JWTClaimsRegistry:
    """What every token must claim; `subject_part` is the claim that says which part of the subject."""
    part: ClaimsOption = {"essential": True}
    return JWTClaimsRegistry(
        now=int(now.timestamp()),
        leeway=CLOCK_SKEW_SECONDS,
        iss={"essential": True, "value": ISSUER},
        aud={"essential": True, "value": audience},
        sub={"essential": True},
        jti={"essential": True},
        iat={"essential": True},
        exp={"essential": True},
        **{subject_part: part},
    )
