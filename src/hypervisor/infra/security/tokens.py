"""Tokens: access (signed, short-lived), refresh (random, stored as a hash), attempt (signed, one attempt)."""

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
SIGNATURE_CACHE_SIZE = 2048


class InvalidToken(Exception):
    """The token is not signed by this installation, has another purpose, or has expired."""


@dataclass(frozen=True, slots=True)
class AccessClaims:
    user_id: int
    session_id: str


class AccessTokens:
    """Issues and reads JWTs with one pinned algorithm. Roles are never in a token."""

    def __init__(self, secret: bytes, lifetime: timedelta) -> None:
        self._key = OctKey.import_key(derive_key(secret, "access tokens"))
        self.lifetime = lifetime
        # The signature check is cached: its result never changes. The expiry is checked on each read.
        self._claims_of = lru_cache(SIGNATURE_CACHE_SIZE)(self._verified_claims)

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
        """The claims of a valid access token. Raises InvalidToken for any other text."""
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
    """One attempt of a deployment. All replicas of a gang share its number."""

    deployment_id: int
    attempt: int


@dataclass(frozen=True, slots=True)
class AttemptToken:
    """A verified attempt token."""

    claims: AttemptClaims
    issued_at: datetime
    expires_at: datetime

    def renewal_lifetime(self, now: datetime) -> timedelta | None:
        """The lifetime of the next token when half of this one's has passed, else None."""
        lifetime = self.expires_at - self.issued_at
        return lifetime if now - self.issued_at >= lifetime / 2 else None


class AttemptTokens:
    """Issues and reads the tokens with which a workload reports about itself.

    Key and audience differ from those of access tokens, so neither is accepted as the other. The caller
    checks whether the attempt is still live.
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
        """The verified token. Raises InvalidToken for any text that is not a valid attempt token."""
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
    """SHA-256 in hex, for storage. A plain hash is enough: random secrets resist a dictionary attack."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _registry(now: datetime, audience: str, subject_part: str) -> JWTClaimsRegistry:
    """The claims that every token must have; `subject_part` names the claim that narrows the subject."""
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
