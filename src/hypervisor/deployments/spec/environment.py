"""Environments of deployments: secret values are encrypted on arrival and decrypted only for a launch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hypervisor.deployments.schemas.requests import SecretValue
from hypervisor.errors import Invalid
from hypervisor.infra.security.encryption import DecryptionError, Encryptor
from hypervisor.kernel.exec_limits import TooLargeForExec, check_total

ENV_PURPOSE = "deployment.env"
HIDDEN = "***"


LOST = "lost"
"""In place of "encrypted": the key of the value was given up, so the value must be set again."""


def encrypt_environment(env: Mapping[str, str | SecretValue], encryptor: Encryptor) -> dict[str, Any]:
    """The stored form: plain values as text, secret values as {"encrypted": ...}."""
    stored: dict[str, Any] = {}
    for name, value in env.items():
        if isinstance(value, str):
            stored[name] = value
        elif value.secret:
            stored[name] = {"encrypted": encryptor.encrypt(value.value, ENV_PURPOSE)}
        else:
            stored[name] = value.value
    return stored


def shown_environment(stored: Mapping[str, Any] | None) -> dict[str, str]:
    """The form in responses: secret values are hidden."""
    return {name: HIDDEN if isinstance(value, dict) else value for name, value in (stored or {}).items()}


def decrypt_environment(stored: Mapping[str, Any], encryptor: Encryptor) -> dict[str, str]:
    """The environment of the workload; `stored` as in `Deployment.env`. Raises DecryptionError."""
    if lost := lost_secrets(stored):
        raise DecryptionError(
            f"the secret values of {', '.join(lost)} were lost with the old SECRET_KEY: set them again"
        )
    return {
        name: encryptor.decrypt(value["encrypted"], ENV_PURPOSE) if isinstance(value, dict) else value
        for name, value in stored.items()
    }


def lost_secrets(stored: Mapping[str, Any] | None) -> list[str]:
    """The names of the secret values that must be set again."""
    return [name for name, value in (stored or {}).items() if isinstance(value, dict) and LOST in value]


def rekeyed(stored: Mapping[str, Any], encryptor: Encryptor) -> dict[str, Any]:
    """The environment under this key: a value of another key is lost, one of this key is not."""
    return {
        name: _rekeyed_secret(value, encryptor) if isinstance(value, dict) else value
        for name, value in stored.items()
    }


def _rekeyed_secret(value: Mapping[str, str], encryptor: Encryptor) -> dict[str, str]:
    (ciphertext,) = value.values()
    return {"encrypted" if ciphertext.startswith(encryptor.prefix) else LOST: ciphertext}


def check_start_size(command: Sequence[str] | None, env: Mapping[str, str]) -> None:
    """Raises Invalid for a command and an environment that are together too large for any program."""
    try:
        check_total(command or (), env)
    except TooLargeForExec as error:
        raise Invalid("too_large_to_start", f"{error}.") from error
