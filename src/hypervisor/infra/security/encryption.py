"""Encryption of small secrets at rest: AES-256-GCM, with the key id as prefix."""

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
    """The ciphertext cannot be decrypted: other SECRET_KEY, other purpose, or damaged."""


class Encryptor:
    """Encrypts text with a key derived from the installation's secret.

    `purpose` ("invite", "env") is authenticated: a ciphertext cannot be decrypted for another purpose.
    """

    def __init__(self, secret: bytes) -> None:
        self._cipher = AESGCM(derive_key(secret, "encryption"))
        self._fingerprints = derive_key(secret, "fingerprints")
        self.key_id = derive_key(secret, "encryption key id")[:_KEY_ID_BYTES].hex()

    @property
    def prefix(self) -> str:
        """The start of every ciphertext of this key."""
        return f"{_VERSION}.{self.key_id}."

    def encrypt(self, text: str, purpose: str) -> str:
        """The ciphertext as `v1.<key id>.<base64url>`: about 4/3 of the text plus 50 characters."""
        nonce = os.urandom(_NONCE_BYTES)
        raw = nonce + self._cipher.encrypt(nonce, text.encode(), self._associated_data(purpose))
        return f"{self.prefix}{base64.urlsafe_b64encode(raw).decode()}"

    def decrypt(self, ciphertext: str, purpose: str) -> str:
        """The text that was encrypted for this purpose. Raises DecryptionError."""
        version, key_id, payload = _split(ciphertext)
        if version != _VERSION or key_id != self.key_id:
            raise DecryptionError(f"encrypted with key {key_id}, but SECRET_KEY gives key {self.key_id}")
        try:
            raw = base64.urlsafe_b64decode(payload)
            nonce, encrypted = raw[:_NONCE_BYTES], raw[_NONCE_BYTES:]
            text = self._cipher.decrypt(nonce, encrypted, self._associated_data(purpose))
        except (InvalidTag, binascii.Error, ValueError):
            raise DecryptionError("the ciphertext is damaged or was encrypted for another purpose") from None
        return text.decode()

    def fingerprint(self, text: str, purpose: str) -> str:
        """64 hex characters, equal for equal texts (HMAC-SHA256 with a derived key)."""
        return hmac.new(self._fingerprints, f"{purpose}\0{text}".encode(), hashlib.sha256).hexdigest()

    def _associated_data(self, purpose: str) -> bytes:
        return f"{_VERSION}.{self.key_id}.{purpose}".encode()


def key_id_of(ciphertext: str) -> str:
    """The id of the key that a ciphertext needs. Raises DecryptionError if it is not one."""
    return _split(ciphertext)[1]


def _split(ciphertext: str) -> tuple[str, str, str]:
    parts = ciphertext.split(".")
    if len(parts) != 3:
        raise DecryptionError("not a ciphertext")
    return parts[0], parts[1], parts[2]
