"""The contract of every runtime. `tests/contract/test_runtimes.py` runs the same cases on each runtime.

The rest of the product relies on these rules:

* Every call is idempotent by instance name. `start` of an existing name adopts the instance; `stop` and
  `remove` of a missing name succeed.
* Unreachable is not absent. When the engine does not answer, a call raises `RuntimeUnavailable`.
  `ObservedState.ABSENT` is returned only when the engine has reported that there is no such instance.
* Instances outlive the server. A new process that opens the same runtime observes and drives them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from hypervisor.kernel.observation import ABSENT, Observation, ObservedState, PortBinding
from hypervisor.kernel.resources import Resources

__all__ = [
    "ABSENT",
    "API_NAMES",
    "LaunchFailed",
    "LaunchSpec",
    "LogChunk",
    "Observation",
    "ObservedState",
    "PortBinding",
    "Runtime",
    "RuntimeInfo",
    "RuntimeUnavailable",
]


class RuntimeUnavailable(Exception):
    """The engine cannot be reached or did not answer. The caller must not conclude anything from that."""


class LaunchFailed(Exception):
    """The engine refused to start this instance (no such image, no such program).

    The message is the engine's. `retryable`: the same call may succeed later.
    """

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.retryable = retryable


@dataclass(frozen=True, slots=True)
class LaunchSpec:
    """The input of `start`: one instance to run.

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


class LogChunk(NamedTuple):
    """A part of the output of an instance, and the position after it.

    A position is ASCII text without line breaks of at most 200 characters. Only the runtime that returned it
    can read it. It stays valid as long as the output is stored.
    """

    data: bytes
    position: str


@dataclass(frozen=True, slots=True)
class RuntimeInfo:
    """The result of `probe`: a short description for people, and the size of the engine's machine."""

    name: str
    description: str
    cpu_milli: int | None = None
    ram_mib: int | None = None
    details: Mapping[str, str] = field(default_factory=dict)
    identity: str | None = None
    """An id of the engine that is the same from every machine. None if the engine has none."""


class Runtime(Protocol):
    """One engine. Safe to use from many tasks of one event loop."""

    @property
    def name(self) -> str:
        """The name in settings and on clusters, as in `hypervisor.runtimes.kinds`."""
        ...

    @property
    def ends_are_final(self) -> bool:
        """Whether an ended instance can never run again.

        False: it can be started from outside of the product until `remove` has returned True. The reconciler
        then frees the capacity of the attempt only after that.
        """
        ...

    async def probe(self) -> RuntimeInfo:
        """Check that the engine answers, and describe it. Raises RuntimeUnavailable."""
        ...

    async def start(self, spec: LaunchSpec) -> Observation:
        """Create and start the instance, or adopt the existing one of this name. Return its observation.

        Exactly one instance runs, even if two callers race, or if the caller dies during the call and repeats
        it. Raises LaunchFailed, RuntimeUnavailable.
        """
        ...

    async def observe(self, instances: Collection[str]) -> Mapping[str, Observation]:
        """Return the current observation of each instance, ABSENT ones included, by name.

        Uses one request to the engine if possible.

        Raises RuntimeUnavailable.
        """
        ...

    async def stop(self, instance: str, grace_seconds: float) -> None:
        """Stop the instance: the stop signal to all its processes now, SIGKILL after `grace_seconds`.

        The stop signal is SIGTERM, unless the image sets another one. Returns when it is sent, not when the
        instance has ended. A second call never restarts the grace period. After a restart of this process a
        second call ensures that the kill still happens. Raises RuntimeUnavailable.
        """
        ...

    async def remove(self, instance: str) -> bool:
        """Delete an ended instance: container, working directory, state files.

        Its logs stay until `purge_logs` if the engine allows it. Returns True if the instance is gone and can
        never run again, also for an unknown name. Returns False if it is not gone: it runs (and goes on
        running), or the engine is still removing it. Raises RuntimeUnavailable.
        """
        ...

    async def list_instances(self) -> Mapping[str, Observation]:
        """Return every instance of this installation on the engine, for adoption and garbage collection.

        Raises RuntimeUnavailable.
        """
        ...

    def logs(
        self, instance: str, *, tail: int | None = None, after: str | None = None, follow: bool = False
    ) -> AsyncIterator[LogChunk]:
        """The bytes that the instance wrote to stdout and stderr, oldest first, in chunks of any size.

        `tail` is the number of last lines (see `hypervisor.kernel.log_text`), None for all that is stored.
        `after` is the position of a chunk: the output is what follows that chunk, exactly, also after a
        restart of the server, a rotation, or `remove`. What the runtime has deleted since then is left out.
        All output follows a text that is not a position. `tail` has no effect then.

        The first chunk is empty, and its position is the beginning of the output: `after`, unless the runtime
        has deleted what follows. Other chunks may be empty too. With `follow` the iterator ends when the
        instance has ended and all output was returned. An unknown instance yields nothing. A chunk may end
        within a line or a character. Memory use does not depend on the length of a line.
        """
        ...

    async def purge_logs(self, instance: str) -> None:
        """Delete the stored logs of an instance. An unknown name is fine."""
        ...

    def changes(self) -> AsyncIterator[str]:
        """Names of instances that may have changed. These are hints: one may be lost or repeated."""
        ...

    async def close(self) -> None:
        """Close the connections and tasks of this process. Instances keep running."""
        ...
