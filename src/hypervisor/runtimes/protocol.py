"""The contract that every runtime keeps; `tests/contract/test_runtimes.py` runs the same cases on each.

Rules that the rest of the product relies on:

* Every call is idempotent by instance name. `start` of a name that exists adopts what is there; `stop` and
  `remove` of a name that does not exist succeed.
* Not being able to see is not the same as seeing nothing: when the engine cannot be asked, a call raises
  `RuntimeUnavailable`. `ObservedState.ABSENT` is only ever said on the engine's own word.
* Instances outlive the server. A new process that opens the same runtime sees and drives them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from hypervisor.kernel.observation import ABSENT, Observation, ObservedState, PortBinding
from hypervisor.kernel.resources import Resources

__all__ = [
    "ABSENT",
    "API_NAMES",
    "LaunchFailed",
    "LaunchSpec",
    "Observation",
    "ObservedState",
    "PortBinding",
    "Runtime",
    "RuntimeInfo",
    "RuntimeUnavailable",
]


class RuntimeUnavailable(Exception):
    """The engine cannot be reached or did not answer: nothing is known, nothing may be concluded."""


class LaunchFailed(Exception):
    """The engine refused to start this instance for good (no such image, no such program).

    The message is in the engine's own words. `retryable` tells whether the same call may succeed later.
    """

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.retryable = retryable


@dataclass(frozen=True, slots=True)
class LaunchSpec:
    """Everything that a runtime needs to start one instance.

    `image` is None for runtimes that run a plain command. `command` is an argv list, empty for the image's
    own entry point. `gpu_indices` are the device numbers on the node; `gpu_milli` is the share of each
    (1000 for whole devices). `ports` are the ports that the workload listens on; the runtime publishes each
    on 127.0.0.1 and passes `PORT` (the first one's number as seen by the workload) and `PORT_<n>` in the
    environment. `labels` are the deployment's labels (the simulated runtime reads its script from them).
    `working_dir` is an absolute path in which the command starts, None for the image's or the instance's own.
    """

    instance: str
    resources: Resources
    image: str | None = None
    command: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    gpu_indices: tuple[int, ...] = ()
    gpu_milli: int = 0
    ports: tuple[int, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    read_only_root: bool = False
    working_dir: str | None = None


API_NAMES = {"image": "docker_image"}
"""Fields of a launch spec that requests and rows have under another name."""


@dataclass(frozen=True, slots=True)
class RuntimeInfo:
    """What `probe` found: a short description for people, and what the machine behind the engine has."""

    name: str
    description: str
    cpu_milli: int | None = None
    ram_mib: int | None = None
    details: Mapping[str, str] = field(default_factory=dict)
    identity: str | None = None
    """What only this very engine says of itself, wherever it is asked from. None: there is nothing."""


class Runtime(Protocol):
    """One engine. Safe to use from many tasks of one event loop."""

    @property
    def name(self) -> str:
        """The word in settings and on clusters: "process", "docker", "simulated"."""
        ...

    async def probe(self) -> RuntimeInfo:
        """Ask the engine whether it is there. Raises RuntimeUnavailable."""
        ...

    async def start(self, spec: LaunchSpec) -> Observation:
        """Create and start the instance, or adopt the one that has this name; return how it looks now.

        Exactly one instance runs even when two callers race or the caller dies in between and calls again.
        Raises LaunchFailed, RuntimeUnavailable.
        """
        ...

    async def observe(self, instances: Collection[str]) -> Mapping[str, Observation]:
        """How each named instance looks now, ABSENT ones included. One engine round trip where possible.

        Raises RuntimeUnavailable.
        """
        ...

    async def stop(self, instance: str, grace_seconds: float) -> None:
        """Ask the instance to end: SIGTERM to all of it now, SIGKILL when `grace_seconds` have passed.

        Returns once the request is on its way, not when the instance has ended; calling it again is
        harmless and never restarts the grace period. After a restart of this process, calling it again
        makes sure that the kill still happens.
        Raises RuntimeUnavailable.
        """
        ...

    async def remove(self, instance: str) -> None:
        """Forget an instance that has ended: container, working directory, state files. Its logs are kept
        where the engine allows it until `purge_logs`. A running instance is not removed (no-op).
        Raises RuntimeUnavailable.
        """
        ...

    async def list_instances(self) -> Mapping[str, Observation]:
        """Every instance of this installation that the engine knows, for adoption and garbage collection.

        Raises RuntimeUnavailable.
        """
        ...

    def logs(self, instance: str, *, tail: int | None = None, follow: bool = False) -> AsyncIterator[str]:
        """Lines (without the newline) that the instance wrote to stdout and stderr, oldest first.

        `tail` limits to the last so many lines, None is all that is kept. With `follow` the iterator goes
        on until the instance has ended. An unknown instance yields nothing.
        """
        ...

    async def purge_logs(self, instance: str) -> None:
        """Delete what is kept of an instance's logs. Unknown names are fine."""
        ...

    def changes(self) -> AsyncIterator[str]:
        """Names of instances that may have changed, as they do. Hints only: one may be lost or doubled."""
        ...

    async def close(self) -> None:
        """Let go of connections and tasks of this process. Running instances go on."""
        ...
