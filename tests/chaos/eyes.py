"""What really runs, seen without the product: processes by `/proc`, containers by the engine's API."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from tests.support.docker import Api
from tests.support.wait import PROMPT

MARK = b"HV_INSTANCE="


class Eyes(Protocol):
    """How a rig sees its workloads."""

    def alive(self) -> list[str]:
        """The instances of which something lives."""
        ...

    def lives_of(self, suffix: str) -> set[str]:
        """What tells one life of the instance whose name ends so from another one; empty when it is dead."""
        ...

    def doubled(self) -> list[str]:
        """Instances that run twice, as sentences."""
        ...

    def end_everything(self) -> None:
        """Leave nothing behind."""
        ...


class ProcessEyes:
    """Each workload carries its instance in its environment and works in a folder of the rig."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)

    def alive(self) -> list[str]:
        return sorted({instance for _, instance in self._marked()})

    def lives_of(self, suffix: str) -> set[str]:
        return {str(pid) for pid, instance in self._marked() if instance.endswith(suffix)}

    def doubled(self) -> list[str]:
        """Those that stay under two supervisors: one that finds its instance claimed goes by itself."""
        deadline = time.monotonic() + PROMPT
        while (doubled := self._leaders()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return [f"I4: {instance} runs twice: {pids}" for instance, pids in doubled.items()]

    def end_everything(self) -> None:
        for pid, _ in self._marked():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _leaders(self) -> dict[str, list[int]]:
        """The supervisors of those instances that have several; a supervisor leads its session."""
        leaders: dict[str, list[int]] = {}
        for pid, instance in self._marked():
            with suppress(ProcessLookupError):
                if os.getsid(pid) == pid:
                    leaders.setdefault(instance, []).append(pid)
        return {instance: pids for instance, pids in leaders.items() if len(pids) > 1}

    def _marked(self) -> Iterator[tuple[int, str]]:
        """Every living process that carries an instance of this rig."""
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


class ContainerEyes:
    """Every container of an engine that is the rig's alone. Its name is its instance, so none can be there
    twice; whether one was begun twice its own witness has to say.
    """

    def __init__(self, api: Api) -> None:
        self._api = api

    def alive(self) -> list[str]:
        return sorted(one["Names"][0].lstrip("/") for one in self._api.json("GET", "/containers/json"))

    def lives_of(self, suffix: str) -> set[str]:
        names = [name for name in self.alive() if name.endswith(suffix)]
        states = [self._api.inspect(name)["State"] for name in names]
        return {f"{state['Pid']} {state['StartedAt']}" for state in states}

    def doubled(self) -> list[str]:
        return []

    def end_everything(self) -> None:
        """The engine goes with all that is on it."""
