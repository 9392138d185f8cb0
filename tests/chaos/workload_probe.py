"""The workloads that really run, observed without the product: by `/proc` or the engine's API."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from hypervisor.kernel.names import InstanceName
from tests.support.docker import Api
from tests.support.wait import PROMPT

MARK = b"HV_INSTANCE="


class WorkloadProbe(Protocol):
    """Observes the workloads of a rig."""

    def alive(self) -> list[str]:
        """The instances with a live process or container."""
        ...

    def lifetimes_of(self, suffix: str) -> set[str]:
        """Identifiers that change when the instance with this suffix restarts; empty when it is not alive."""
        ...

    def duplicates(self) -> list[str]:
        """A sentence for each instance that runs twice."""
        ...

    def kill_all(self) -> None:
        """Kill all workloads."""
        ...


class ProcessProbe:
    """Each workload has its instance in its environment and a working directory in the rig's folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)

    def alive(self) -> list[str]:
        return sorted({instance for _, instance in self._marked()})

    def lifetimes_of(self, suffix: str) -> set[str]:
        return {str(pid) for pid, instance in self._marked() if instance.endswith(suffix)}

    def duplicates(self) -> list[str]:
        """Instances that keep two supervisors: a supervisor exits by itself if its instance is claimed."""
        deadline = time.monotonic() + PROMPT
        while (duplicates := self._leaders()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return [f"I4: {instance} runs twice: {pids}" for instance, pids in duplicates.items()]

    def kill_all(self) -> None:
        for pid, _ in self._marked():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _leaders(self) -> dict[str, list[int]]:
        """The supervisors of instances with more than one: session leaders in the instance's directory."""
        leaders: dict[str, list[int]] = {}
        for pid, instance in self._marked():
            with suppress(ProcessLookupError, FileNotFoundError):
                if os.getsid(pid) == pid and Path(f"/proc/{pid}/cwd").readlink().name == instance:
                    leaders.setdefault(instance, []).append(pid)
        return {instance: pids for instance, pids in leaders.items() if len(pids) > 1}

    def _marked(self) -> Iterator[tuple[int, str]]:
        """The pid and instance of every live process of this rig."""
        for entry in Path("/proc").iterdir():
            if not entry.name.isdecimal():
                continue
            try:
                environment = (entry / "environ").read_bytes()
                if MARK not in environment or not str((entry / "cwd").readlink()).startswith(self._folder):
                    continue
                if (entry / "stat").read_text().rpartition(")")[2].split()[0] in "ZX":
                    continue
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
            instance = environment.split(MARK, 1)[1].split(b"\0", 1)[0].decode()
            yield int(entry.name), instance


class ContainerProbe:
    """All containers of an engine that only the rig uses. A container's name is its instance, so none can
    exist twice, but two attempts of one replica can; whether one was started twice must be checked by the
    workload.
    """

    def __init__(self, api: Api) -> None:
        self._api = api

    def alive(self) -> list[str]:
        return sorted(
            container["Names"][0].lstrip("/") for container in self._api.json("GET", "/containers/json")
        )

    def lifetimes_of(self, suffix: str) -> set[str]:
        names = [name for name in self.alive() if name.endswith(suffix)]
        states = [self._api.inspect(name)["State"] for name in names]
        return {f"{state['Pid']} {state['StartedAt']}" for state in states}

    def duplicates(self) -> list[str]:
        """Replicas with two live containers, by the label of the containers."""
        live = self._api.json("GET", "/containers/json")
        names = [InstanceName.parse(container["Labels"].get("hypervisor.instance", "")) for container in live]
        replicas = Counter((name.deployment_id, name.replica) for name in names if name is not None)
        return [f"I4: replica {key} runs {count} times" for key, count in replicas.items() if count > 1]

    def kill_all(self) -> None:
        """Nothing to do: the test removes the engine with its containers."""
