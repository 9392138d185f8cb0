"""Environments of deployments: secret values are encrypted on arrival and decrypted only for a launch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hypervisor.deployments.schemas.requests import SecretValue
from hypervisor.errors import Invalid
from hypervisor.infra.security.encryption import Encryptor
from hypervisor.kernel.exec_limits import TooLargeForExec, check_total

ENV_PURPOSE = "deployment.env"
HIDDEN = "***"


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
    return {
        name: encryptor.decrypt(value["encrypted"], ENV_PURPOSE) if isinstance(value, dict) else value
        for name, value in stored.items()
    }


def check_start_size(command: Sequence[str] | None, env: Mapping[str, str]) -> None:
    """Raises Invalid for a command and an environment that are together too large for any program."""
    try:
        check_total(command or (), env)
    except TooLargeForExec as error:
        raise Invalid("too_large_to_start", f"{error}.") from error
