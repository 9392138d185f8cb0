"""Which fields of a deployment each runtime honours. A request for any other is refused at submit.

Only fields that need a runtime are here. What the control plane does by itself (priority, replicas, retries,
dependencies, timeouts) holds on every runtime.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from hypervisor.runtimes.protocol import API_NAMES, LaunchSpec

_NOT_REQUESTED = frozenset({"instance", "resources", "gpu_indices", "gpu_milli", "labels"})
OPTIONAL_FIELDS = tuple(
    API_NAMES.get(spec.name, spec.name) for spec in fields(LaunchSpec) if spec.name not in _NOT_REQUESTED
)
"""Fields of a request that a runtime may lack; None, False and empty mean "not requested"."""

COMMON_FIELDS = ("required_cpu_cores", "required_ram_gb", "required_gpu_count", "grace_period_seconds")
"""Fields that always have a value: every runtime accepts them, at least in name."""


@dataclass(frozen=True, slots=True)
class Honours:
    """What a runtime does with the fields of `OPTIONAL_FIELDS` and `COMMON_FIELDS`.

    `honoured` fields have their effect. `in_name` fields are accepted and have none. `needs` are required
    fields, each with advice for its error message. All other optional fields are refused.
    """

    honoured: frozenset[str]
    in_name: frozenset[str] = frozenset()
    needs: Mapping[str, str] = field(default_factory=dict)

    @property
    def accepted(self) -> frozenset[str]:
        return self.honoured | self.in_name


HONOURS: Mapping[str, Honours] = {
    "process": Honours(
        honoured=frozenset(
            {"command", "env", "ports", "working_dir", "required_gpu_count", "grace_period_seconds"}
        ),
        in_name=frozenset({"required_cpu_cores", "required_ram_gb"}),
        needs={"command": 'set command to a list, for example ["python", "train.py"]'},
    ),
    "docker": Honours(
        honoured=frozenset(
            {
                "docker_image",
                "command",
                "env",
                "ports",
                "working_dir",
                "read_only_root",
                "required_cpu_cores",
                "required_ram_gb",
                "required_gpu_count",
                "grace_period_seconds",
            }
        ),
        needs={"docker_image": 'set docker_image, for example "python:3.12"'},
    ),
    # It accepts the fields of all other runtimes, so that a specification can be tried out unchanged.
    "simulated": Honours(
        honoured=frozenset({"grace_period_seconds"}),
        in_name=frozenset(
            {
                "docker_image",
                "command",
                "env",
                "ports",
                "working_dir",
                "read_only_root",
                "required_cpu_cores",
                "required_ram_gb",
                "required_gpu_count",
            }
        ),
    ),
}
"""By the name of the runtime."""


def honoured_by(names: set[str]) -> list[str]:
    """The names of the runtimes that honour all of these fields."""
    return sorted(name for name, honours in HONOURS.items() if names <= honours.honoured)
