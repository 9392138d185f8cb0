"""Access tokens (signed, short-lived) and refresh tokens (random, kept hashed)."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey
from joserfc.jwt import JWTClaimsRegistry

from hypervisor.infra.secret_key import derive_key

ALGORITHM = "HS256"
ISSUER = "mlops-hypervisor"
AUDIENCE = "mlops-hypervisor-api"
CLOCK_SKEW_SECONDS = 5


class InvalidToken(Exception):
    """Not an access token of ours, or one that is over."""


@dataclass(frozen=True, slots=True)
class AccessClaims:
    user_id: int
    session_id: str


class AccessTokens:
    """Issues and reads JWTs with one pinned algorithm; roles are never in a token."""

    def __init__(self, secret: bytes, lifetime: timedelta) -> None:
        self._key = OctKey.import_key(derive_key(secret, "access tokens"))
        self.lifetime = lifetime

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
            claims = jwt.decode(token, self._key, algorithms=[ALGORITHM]).claims
            _registry(now).validate(claims)
            return AccessClaims(user_id=int(claims["sub"]), session_id=str(claims["sid"]))
        except (JoseError, ValueError) as error:
            raise InvalidToken(str(error)) from None


def new_secret() -> str:
    """256 random bits for a refresh token, safe in URLs and headers."""
    return secrets.token_urlsafe(32)


def hash_secret(secret: str) -> str:
    """How random secrets are stored. A plain hash is enough: they have no dictionary to try."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _registry(now: datetime) -> JWTClaimsRegistry:
    return JWTClaimsRegistry(
        now=int(now.timestamp()),
        leeway=CLOCK_SKEW_SECONDS,
        iss={"essential": True, "value": ISSUER},
        aud={"essential": True, "value": AUDIENCE},
        sub={"essential": True},
        sid={"essential": True},
        jti={"essential": True},
        iat={"essential": True},
        exp={"essential": True},
    )
