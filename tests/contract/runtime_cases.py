"""One adapter for each runtime, with its specs for "run until stopped", "exit 3" and so on.

`test_runtimes.py` runs every case below. To add a runtime, subclass `RuntimeCase` (or `ShellCase` for
workloads with a POSIX shell) and append the class to `CASES`. A case without an engine returns the reason in
`unavailable()` and is skipped.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import secrets
import shlex
import tarfile
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

import psutil
import pytest

from hypervisor.kernel.names import InstanceName
from hypervisor.kernel.resources import Resources
from hypervisor.runtimes.docker import config
from hypervisor.runtimes.docker.runtime import DockerRuntime
from hypervisor.runtimes.process import supervisor
from hypervisor.runtimes.process.environment import environment
from hypervisor.runtimes.process.log_files import LogLimits
from hypervisor.runtimes.process.runtime import ProcessRuntime
from hypervisor.runtimes.process.spawner import DirectSpawner
from hypervisor.runtimes.process.supervisor import Placement
from hypervisor.runtimes.protocol import LaunchSpec, ObservedState, Runtime
from hypervisor.runtimes.simulated.runtime import SimulatedRuntime
from tests.support import docker
from tests.support.wait import eventually

SMALL = Resources(cpu_milli=100, ram_mib=64)


class RealClock:
    """The machine's clocks, as a `hypervisor.kernel.clock.Clock`. `ahead` sets the wall clock forward."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def monotonic(self) -> float:
        return time.monotonic()


class RuntimeCase(ABC):
    """Opens one runtime on a state directory, and makes its launch specs."""

    name: ClassVar[str]
    marks: ClassVar[tuple[pytest.MarkDecorator, ...]] = ()
    runs_commands: ClassVar[bool] = True
    """False for a runtime that runs nothing, so that environment and ports have no effect."""
    keeps_logs: ClassVar[bool] = True
    """False for a runtime that deletes the log with the instance."""
    gpu_environment: ClassVar[Sequence[tuple[tuple[int, ...], str, str]]] = (
        ((1, 3), "CUDA_VISIBLE_DEVICES", "1,3"),
        ((), "CUDA_VISIBLE_DEVICES", ""),
    )
    """GPU indices, a variable, and its value in the workload."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.install = f"t{secrets.token_hex(4)}"
        self._ids = itertools.count(1)
        self._opened: list[Runtime] = []

    @classmethod
    def unavailable(cls) -> str | None:
        """The reason why this runtime cannot be tested here. None if it can."""
        return None

    @abstractmethod
    def _new(self) -> Runtime:
        """A new runtime object on this case's state, as after a start of the server."""

    @abstractmethod
    def sleeps(self) -> LaunchSpec:
        """Prints "ready", runs until it is stopped, and ends at once on SIGTERM."""

    @abstractmethod
    def runs(self, *lines: str, code: int = 0, held: bool = False) -> LaunchSpec:
        """Writes the lines and exits with `code`: at once, or with `held` after `let_go`."""

    @abstractmethod
    def writes_long_line(self, length: int) -> LaunchSpec:
        """Writes the lines "first", `length` times "x", and "last", and exits 0."""

    def writes(self, script: str, *, then: str | None = None) -> LaunchSpec:
        """Runs the shell script, which writes bytes; with `then`, waits for `let_go` and runs that."""
        raise AssertionError(f"{self.name} runs no commands")

    def bound_logs(self, patch: pytest.MonkeyPatch, lines: int) -> None:
        """Let new runtimes keep three files of about this many short lines of each instance."""
        del patch, lines

    @abstractmethod
    async def let_go(self, instance: str) -> None:
        """End a held instance, and wait for its end without the runtime."""

    @abstractmethod
    def ignores_term(self) -> LaunchSpec:
        """Prints "ready" when it ignores SIGTERM, and runs until it is killed."""

    @abstractmethod
    def start_again(self, spec: LaunchSpec) -> None:
        """Start an instance from outside of the product, in the way in which it could happen there."""

    @abstractmethod
    def live(self) -> list[str]:
        """The instances that run, found without the runtime. One that runs twice is there twice."""

    @abstractmethod
    def cannot_start(self) -> tuple[LaunchSpec, str]:
        """A spec that cannot start, and a text that its LaunchFailed must contain."""

    def prints_env(
        self, *names: str, env: Mapping[str, str], gpu_indices: tuple[int, ...] = ()
    ) -> LaunchSpec:
        """Prints one line NAME=[value] for each name (unset reads as NAME=[-]) and exits 0."""
        raise AssertionError(f"{self.name} runs no commands")

    def prints_working_dir(self, directory: str) -> LaunchSpec:
        """Prints the directory in which it was started, which is this one, and exits 0."""
        raise AssertionError(f"{self.name} runs no commands")

    def listens(self, port: int) -> LaunchSpec:
        """Declares `port`, accepts TCP connections on $PORT on every interface and runs until stopped."""
        raise AssertionError(f"{self.name} runs no commands")

    def instance(self) -> str:
        """A name that was not used before."""
        return str(InstanceName(self.install, next(self._ids), 1))

    def open(self) -> Runtime:
        """Another runtime object on the same state. It is closed after the test."""
        runtime = self._new()
        self._opened.append(runtime)
        return runtime

    async def clean_up(self) -> None:
        """Stop and remove every instance of the test, and close its runtimes."""
        for runtime in self._opened:
            await runtime.close()
        runtime = self._new()
        names = list(await runtime.list_instances())
        for name in names:
            await runtime.stop(name, 0)
        for name in names:
            await eventually(partial(_not_running, runtime, name))
            await runtime.remove(name)
            await runtime.purge_logs(name)
        await runtime.close()


class ShellCase(RuntimeCase):
    """Runtimes whose workloads have a POSIX shell with `sleep`."""

    @abstractmethod
    def shell(self, script: str, *, instance: str | None = None, **fields: Any) -> LaunchSpec:
        """A spec that runs `sh -c script`; `fields` are further fields of LaunchSpec."""

    @abstractmethod
    def gate(self, instance: str) -> Path:
        """The path inside the instance of the file that `let_go` creates."""

    def sleeps(self) -> LaunchSpec:
        return self.shell("trap 'exit 143' TERM; echo ready; while :; do sleep 0.05; done")

    def runs(self, *lines: str, code: int = 0, held: bool = False) -> LaunchSpec:
        name = self.instance()
        script = f"printf '%s\\n' {shlex.join(lines)}; " if lines else ""
        if held:
            script += f"until [ -e {shlex.quote(str(self.gate(name)))} ]; do sleep 0.05; done; "
        return self.shell(f"{script}exit {code}", instance=name)

    def writes_long_line(self, length: int) -> LaunchSpec:
        return self.shell(f"echo first; head -c {length} /dev/zero | tr '\\0' x; echo; echo last")

    def writes(self, script: str, *, then: str | None = None) -> LaunchSpec:
        name = self.instance()
        if then is not None:
            script += f"; until [ -e {shlex.quote(str(self.gate(name)))} ]; do sleep 0.05; done; {then}"
        return self.shell(script, instance=name)

    def ignores_term(self) -> LaunchSpec:
        return self.shell("trap '' TERM; echo ready; while :; do sleep 0.05; done")

    def prints_env(
        self, *names: str, env: Mapping[str, str], gpu_indices: tuple[int, ...] = ()
    ) -> LaunchSpec:
        script = "\n".join(f"printf '%s\\n' \"{name}=[${{{name}--}}]\"" for name in names)
        return self.shell(script, env=env, gpu_indices=gpu_indices, gpu_milli=1000 if gpu_indices else 0)

    def prints_working_dir(self, directory: str) -> LaunchSpec:
        return self.shell("pwd -P", working_dir=directory)


class ProcessCase(ShellCase):
    name = "process"
    _limits = LogLimits()

    def _new(self) -> Runtime:
        return ProcessRuntime(self.state_dir, self.install, RealClock(), log_limits=self._limits)

    def bound_logs(self, patch: pytest.MonkeyPatch, lines: int) -> None:
        self._limits = LogLimits(8 * lines)

    def shell(self, script: str, *, instance: str | None = None, **fields: Any) -> LaunchSpec:
        name = instance or self.instance()
        return LaunchSpec(name, SMALL, command=("sh", "-c", script), **fields)

    def gate(self, instance: str) -> Path:
        return self.state_dir / f"{instance}.gate"

    async def let_go(self, instance: str) -> None:
        self.gate(instance).touch()
        state = self.state_dir / "instances" / instance / "state"
        await eventually(lambda: state.exists() and "exit" in state.read_text())

    def start_again(self, spec: LaunchSpec) -> None:
        """A second supervisor in the directory of the instance; after the removal that is its archive."""
        folders = [self.state_dir / folder / spec.instance for folder in ("instances", "logs")]
        (directory,) = [folder for folder in folders if folder.is_dir()]
        placement = Placement(directory, None, LogLimits())
        started = supervisor.spawn(DirectSpawner(), spec, environment(spec, {}), placement)
        assert started is not None
        os.waitpid(started.pid, 0)

    def live(self) -> list[str]:
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                name = process.environ().get("HV_INSTANCE", "")
                is_supervisor = os.getsid(process.pid) == process.pid and Path(process.cwd()).name == name
                if is_supervisor and name.startswith(f"hv-{self.install}-"):
                    found.append(name)
        return found

    def cannot_start(self) -> tuple[LaunchSpec, str]:
        return LaunchSpec(self.instance(), SMALL, command=("/nowhere/at-all",)), "/nowhere/at-all"

    def listens(self, port: int) -> LaunchSpec:
        program = (
            "import http.server as h, os; h.test(h.SimpleHTTPRequestHandler, port=int(os.environ['PORT']))"
        )
        return LaunchSpec(self.instance(), SMALL, command=("python3", "-c", program), ports=(port,))


class SimulatedCase(RuntimeCase):
    name = "simulated"
    runs_commands = False
    keeps_logs = False

    def __init__(self, state_dir: Path) -> None:
        super().__init__(state_dir)
        self._clock = RealClock()

    def _new(self) -> Runtime:
        return SimulatedRuntime(self.state_dir, self.install, self._clock)

    def sleeps(self) -> LaunchSpec:
        return self._labelled({"simulate/log": "ready"})

    def runs(self, *lines: str, code: int = 0, held: bool = False) -> LaunchSpec:
        lasting = {"simulate/duration": "86400" if held else "0", "simulate/exit-code": str(code)}
        return self._labelled({**lasting, "simulate/log": "\n".join(lines)})

    def writes_long_line(self, length: int) -> LaunchSpec:
        return self.runs("first", "x" * length, "last")

    async def let_go(self, instance: str) -> None:
        self._clock.ahead += timedelta(days=1)

    def ignores_term(self) -> LaunchSpec:
        return self._labelled({"simulate/ignore-term": "true", "simulate/log": "ready"})

    def start_again(self, spec: LaunchSpec) -> None:
        pytest.skip("nothing runs, and nothing but the runtime changes its states")

    def live(self) -> list[str]:
        raise AssertionError(f"{self.name} runs nothing")

    def cannot_start(self) -> tuple[LaunchSpec, str]:
        return self._labelled({"simulate/fail-start": "no such image: nowhere"}), "nowhere"

    def _labelled(self, labels: Mapping[str, str]) -> LaunchSpec:
        return LaunchSpec(self.instance(), SMALL, labels=labels)


class DockerCase(ShellCase):
    name = "docker"
    marks = (pytest.mark.docker,)
    # Device requests need the engine's support, so only "no device" can be tested everywhere.
    gpu_environment = (((), "NVIDIA_VISIBLE_DEVICES", "void"),)

    @classmethod
    def unavailable(cls) -> str | None:
        return docker.why_no_docker()

    def _new(self) -> Runtime:
        return DockerRuntime(self.install, pull_policy="never", log_dir=self.state_dir)

    def shell(self, script: str, *, instance: str | None = None, **fields: Any) -> LaunchSpec:
        name, command = instance or self.instance(), ("/bin/sh", "-c", script)
        return LaunchSpec(name, SMALL, image=docker.IMAGE, command=command, **fields)

    def bound_logs(self, patch: pytest.MonkeyPatch, lines: int) -> None:
        patch.setattr(config, "LOG_FILE_SIZE", str(33 * lines))

    def gate(self, instance: str) -> Path:
        return Path("/tmp/gate")

    async def let_go(self, instance: str) -> None:
        api = docker.Api(docker.endpoint())
        api.call("PUT", f"/containers/{instance}/archive?path=/tmp", _tar_of_an_empty_file("gate"))
        await eventually(lambda: not api.inspect(instance)["State"]["Running"])

    def start_again(self, spec: LaunchSpec) -> None:
        """Like `docker start`; a removed container is not found."""
        api = docker.Api(docker.endpoint())
        api.call("POST", f"/containers/{spec.instance}/start", accept=(204, 304, 404, 409))

    def live(self) -> list[str]:
        filters = quote(json.dumps({"label": [f"hypervisor.install={self.install}"]}))
        containers = docker.Api(docker.endpoint()).json("GET", f"/containers/json?filters={filters}")
        return [container["Labels"]["hypervisor.instance"] for container in containers]

    def cannot_start(self) -> tuple[LaunchSpec, str]:
        return LaunchSpec(self.instance(), SMALL, image="hv-test/nowhere:1"), "hv-test/nowhere:1"

    def listens(self, port: int) -> LaunchSpec:
        return self.shell('exec httpd -f -p "$PORT"', ports=(port,))

    async def clean_up(self) -> None:
        await super().clean_up()
        docker.clean_up(self.install)


CASES: tuple[type[RuntimeCase], ...] = (ProcessCase, SimulatedCase, DockerCase)


def _tar_of_an_empty_file(name: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo(name))
    return buffer.getvalue()


async def _not_running(runtime: Runtime, name: str) -> bool:
    observations = await runtime.observe([name])
    return observations[name].state is not ObservedState.RUNNING
