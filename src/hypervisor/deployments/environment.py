"""Opening the secret values of a deployment's environment, at the moment of its launch only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypervisor.infra.sealing import Sealer

ENV_PURPOSE = "deployment.env"


def open_environment(stored: Mapping[str, Any], sealer: Sealer) -> dict[str, str]:
    """The environment as the workload gets it; `stored` as in `Deployment.env`. Raises UnsealError."""
    return {
        name: sealer.unseal(value["sealed"], ENV_PURPOSE) if isinstance(value, dict) else value
        for name, value in stored.items()
    }
