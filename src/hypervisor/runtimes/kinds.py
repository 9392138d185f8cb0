"""The runtimes by name. A new runtime is one entry in `RUNTIMES`.

Names, notes and fields are needed where no engine is: in the command line, in request schemas and at submit.
So this module imports no runtime. Each is imported when it is first used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

from hypervisor.errors import StartupError
from hypervisor.runtimes.protocol import API_NAMES, LaunchSpec, Runtime
from hypervisor.scheduling.snapshots.wording import listed

if TYPE_CHECKING:
    from pathlib import Path

    from hypervisor.kernel.clock import Clock
    from hypervisor.settings import Settings

AUTO = "auto"
"""The choice of Docker if an engine answers when the cluster is created, else simulated."""

_NOT_OPTIONAL = frozenset({"instance", "resources", "gpu_indices", "gpu_milli", "labels"})
OPTIONAL_FIELDS = tuple(
    API_NAMES.get(spec.name, spec.name) for spec in fields(LaunchSpec) if spec.name not in _NOT_OPTIONAL
)
"""Fields of a request that a runtime may lack; None, False and empty mean that nothing is requested."""

COMMON_FIELDS = ("required_cpu_cores", "required_ram_gb", "required_gpu_count", "grace_period_seconds")
"""Fields that always have a value: every runtime accepts them, at least in name."""


@dataclass(frozen=True, slots=True)
class RuntimeSetup:
    """The input of `open_runtime`, the same for every runtime of a server."""

    settings: Settings
    install: str
    clock: Clock

    @property
    def data_dir(self) -> Path:
        return self.settings.data_dir.absolute()


class RuntimeModule(Protocol):
    """The functions of a runtime's modules. Only `open_runtime` is required."""

    def open_runtime(self, setup: RuntimeSetup, endpoint: str | None) -> Runtime:
        """The runtime of an engine. `endpoint` None is the default engine of this machine."""
        ...

    def open_reader(self, setup: RuntimeSetup) -> Runtime:
        """A runtime that reads the files of a local runtime, while another process drives it."""
        ...

    async def describe(self, setup: RuntimeSetup) -> str | None:
        """Describe the default engine without its runtime. None: only the runtime can describe it.

        Raises RuntimeUnavailable.
        """
        ...


@dataclass(frozen=True, slots=True)
class RuntimeKind:
    """The declaration of one runtime.

    `honoured` and `in_name` are names of `OPTIONAL_FIELDS` and `COMMON_FIELDS`. `honoured` fields have their
    effect. `in_name` fields are accepted and have none. `needs` are fields without which nothing can start,
    each with what to give. A request for any other optional field is refused at submit. Everything that the
    control plane does by itself (priority, replicas, retries, dependencies, timeouts) holds on every runtime.
    """

    note: str
    """One line for users about what runs and what is enforced."""

    module: str
    """The module with `open_runtime`."""

    honoured: frozenset[str]
    in_name: frozenset[str] = frozenset()
    needs: Mapping[str, str] = field(default_factory=dict)

    local: bool = False
    """Whether the engine is this machine and DATA_DIR, so that the site is its identity."""

    reader: str | None = None
    """The module with `open_reader`. Without one, a server that only answers requests opens the runtime."""

    describer: str | None = None
    """The module with `describe`. Without one, the runtime is opened to describe it."""

    log_folder: str | None = None
    """The folder in DATA_DIR from which retention deletes logs.

    A local runtime with such a folder starts nothing while the disk is full.
    """

    advice: str = ""
    """What to do when the engine does not answer, for `hypervisor doctor`."""

    @property
    def accepted(self) -> frozenset[str]:
        return self.honoured | self.in_name

    def open(self, setup: RuntimeSetup, endpoint: str | None) -> Runtime:
        """The runtime of an engine. `endpoint` None is the default engine of this machine."""
        return _import(self.module).open_runtime(setup, endpoint)

    def open_reader(self, setup: RuntimeSetup, endpoint: str | None) -> Runtime:
        """The runtime for a server that only answers requests."""
        if self.reader is None:
            return self.open(setup, endpoint)
        return _import(self.reader).open_reader(setup)

    async def describe(self, setup: RuntimeSetup) -> str | None:
        """Describe the default engine. None: open the runtime for that. Raises RuntimeUnavailable."""
        return None if self.describer is None else await _import(self.describer).describe(setup)


RUNTIMES: dict[str, RuntimeKind] = {
    "docker": RuntimeKind(
        note="images run on a Docker-compatible engine, with limits enforced",
        module="hypervisor.runtimes.docker.runtime",
        describer="hypervisor.runtimes.docker.endpoint",
        log_folder="docker",
        advice="start the engine, add this user to its group, or set DOCKER_HOST",
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
        needs={"docker_image": 'give docker_image, for example "python:3.12"'},
    ),
    "process": RuntimeKind(
        note="commands run on the server's machine as the server's user; limits are not enforced",
        module="hypervisor.runtimes.process.runtime",
        local=True,
        reader="hypervisor.runtimes.process.read_only",
        log_folder="process/logs",
        honoured=frozenset(
            {"command", "env", "ports", "working_dir", "required_gpu_count", "grace_period_seconds"}
        ),
        in_name=frozenset({"required_cpu_cores", "required_ram_gb"}),
        needs={"command": 'give command, for example ["python", "train.py"], or a text for the shell'},
    ),
    # It stands in for the others, so it accepts what they accept: a specification can be tried out unchanged.
    "simulated": RuntimeKind(
        note="durations and outcomes come from labels, nothing really runs",
        module="hypervisor.runtimes.simulated.runtime",
        local=True,
        reader="hypervisor.runtimes.simulated.read_only",
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
"""The declaration of each runtime, by its name: at most 16 characters."""


def runtime_choices() -> tuple[str, ...]:
    """The values of a cluster's `runtime` and of DEFAULT_RUNTIME: `auto` and the names of all runtimes."""
    return (AUTO, *RUNTIMES)


def local_runtimes() -> tuple[str, ...]:
    """The names of the runtimes whose engine is this machine and DATA_DIR."""
    return tuple(name for name, kind in RUNTIMES.items() if kind.local)


def honoured_by(requested: set[str]) -> list[str]:
    """The names of the runtimes on which all of these fields have their effect, sorted."""
    return sorted(name for name, kind in RUNTIMES.items() if requested <= kind.honoured)


def check_default_runtime(settings: Settings) -> None:
    """Raises StartupError when DEFAULT_RUNTIME is not one of `runtime_choices`."""
    if settings.default_runtime not in runtime_choices():
        raise StartupError(f"DEFAULT_RUNTIME: must be one of {listed(runtime_choices(), 'or')}")


def _import(module: str) -> RuntimeModule:
    return cast(RuntimeModule, import_module(module))
