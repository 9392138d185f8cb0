"""Sealing of small secrets at rest: AES-256-GCM with the id of the key in front."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from hypervisor.infra.security.secret_key import derive_key

_VERSION = "v1"
_NONCE_BYTES = 12
_KEY_ID_BYTES = 4


class DecryptionError(Exception):
    """A sealed text that cannot be opened: another SECRET_KEY, another purpose, or damage."""


class Encryptor:
    """Seals text with a key derived from the installation's secret.

    `purpose` binds a sealed text to its place ("invite", "env"): moved elsewhere it does not open.
    """

    def __init__(self, secret: bytes) -> None:
        self._cipher = AESGCM(derive_key(secret, "sealing"))
        self._fingerprints = derive_key(secret, "fingerprints")
        self.key_id = derive_key(secret, "sealing key id")[:_KEY_ID_BYTES].hex()

    def encrypt(self, text: str, purpose: str) -> str:
        """The sealed form, `v1.<key id>.<base64url>`; about 4/3 of the text plus 50 characters."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = nonce + self._cipher.encrypt(nonce, text.encode(), self._bound_to(purpose))
        return f"{_VERSION}.{self.key_id}.{base64.urlsafe_b64encode(sealed).decode()}"

    def decrypt(self, sealed: str, purpose: str) -> str:
        """The text that was sealed for this purpose. Raises UnsealError."""
        version, key_id, payload = _split(sealed)
        if version != _VERSION or key_id != self.key_id:
            raise DecryptionError(f"sealed with key {key_id}, but SECRET_KEY gives key {self.key_id}")
        try:
            raw = base64.urlsafe_b64decode(payload)
            opened = self._cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], self._bound_to(purpose))
        except (InvalidTag, binascii.Error, ValueError):
            raise DecryptionError("the sealed text is damaged or was sealed for something else") from None
        return opened.decode()

    def fingerprint(self, text: str, purpose: str) -> str:
        """64 hex characters by which equal texts are known again (HMAC-SHA256 with a derived key)."""
        return hmac.new(self._fingerprints, f"{purpose}\0{text}".encode(), hashlib.sha256).hexdigest()

    def _bound_to(self, purpose: str) -> bytes:
        return f"{_VERSION}.{self.key_id}.{purpose}".encode()


def _split(sealed: str) -> tuple[str, str, str]:
    parts = sealed.split(".")
    if len(parts) != 3:
        raise DecryptionError("not a sealed text")
    return parts[0], parts[1], parts[2]
