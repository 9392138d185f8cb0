"""What is on disk: one folder an instance, and the logs of those that were removed.

instances/<name>/launch    when it was asked for and its ports (JSON); never its command or environment
                 state     line 1 the claim (pid, start time, boot; or "void"), then "exit N", "swept T"
                 stop      the stop order (JSON)
                 log*      its output
                 work/     its working directory
logs/<name>/               what is kept of a removed instance until the purge: its logs and the claim
trash/                     folders on their way out
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from hypervisor.kernel.names import InstanceName
from hypervisor.runtimes.process.proc import Identity, is_supervised

VOID = "void"
LOG = "log"
STATE = "state"


@dataclass(frozen=True, slots=True)
class Launch:
    started_at: datetime
    ports: dict[int, int]
    """Host port by declared port."""


@dataclass(frozen=True, slots=True)
class State:
    """`identity` is None for a void claim: the instance was stopped before it began, or will never begin."""

    identity: Identity | None
    exit_code: int | None = None
    swept_at: float | None = None
    """Seconds since the epoch of the end, written once nothing of the instance was left."""


@dataclass(frozen=True, slots=True)
class StopOrder:
    """A stop as asked for. `deadline` is the time of the kill in seconds since the epoch."""

    deadline: float
    grace: float
    sent: bool = False
    killed: bool = False

    def remaining(self, now: float) -> float:
        """Seconds of grace left, never more than were granted even if the wall clock was set back."""
        return min(self.grace, max(0.0, self.deadline - now))


class InstanceDir:
    """The files of one instance."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._state = path / STATE

    def prepare(self, launch: Launch) -> Launch:
        """Make the folder, or take the one that is there; the launch that is written down in the end."""
        (self.path / "work").mkdir(parents=True, exist_ok=True)
        text = json.dumps({"started_at": launch.started_at.isoformat(), "ports": list(launch.ports.items())})
        draft = self.path / f".launch.{os.getpid()}"
        draft.write_text(text)
        try:
            os.link(draft, self.path / "launch")
        except FileExistsError:
            return self.launch() or launch
        finally:
            draft.unlink()
        return launch

    def launch(self) -> Launch | None:
        """None if nothing (readable) was written."""
        try:
            data = json.loads((self.path / "launch").read_text())
            ports = {int(port): int(host_port) for port, host_port in data["ports"]}
            return Launch(datetime.fromisoformat(data["started_at"]), ports)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def state(self) -> State | None:
        """None if nobody has claimed the instance, or whoever does has not written its name down yet."""
        try:
            text = self._state.read_text(errors="replace")
            if "\n" not in text:
                # A supervisor makes the file and then writes. Only where none lives is nothing to come.
                if is_supervised(self.path.name):
                    return None
                text = self._state.read_text(errors="replace")
        except FileNotFoundError:
            return None
        lines = text.splitlines()
        identity, exit_code, swept_at = _parse_claim(lines[0] if lines else ""), None, None
        for line in lines[1:]:
            match line.split():
                case ["exit", code] if exit_code is None and code.isdigit():
                    exit_code = int(code)
                case ["swept", at] if swept_at is None:
                    swept_at = float(at)
        return State(identity, exit_code, swept_at)

    def claim_void(self) -> bool:
        """Claim the instance so that no supervisor ever can; False if one already has."""
        try:
            with self._state.open("x") as file:
                file.write(f"{VOID}\n")
        except FileExistsError:
            return False
        return True

    def record_exit(self, code: int) -> None:
        self._append(f"exit {code}")

    def record_swept(self, at: float) -> None:
        self._append(f"swept {at!r}")

    def changed_at(self) -> float:
        """When `state` was last written, seconds since the epoch: the end, if the supervisor wrote last."""
        return self._state.stat().st_mtime

    def stop_order(self) -> StopOrder | None:
        try:
            return StopOrder(**json.loads((self.path / "stop").read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def write_stop_order(self, order: StopOrder) -> None:
        draft = self.path / ".stop"
        draft.write_text(json.dumps(asdict(order)))
        draft.replace(self.path / "stop")

    def _append(self, line: str) -> None:
        with self._state.open("a") as file:
            file.write(f"{line}\n")


class StateRoot:
    """The folders of one installation."""

    def __init__(self, root: Path, install: str) -> None:
        self._install = install
        self._instances = root / "instances"
        self._logs = root / "logs"
        self._trash = root / "trash"
        self._root = root

    def create(self) -> None:
        """Make what is missing, closed to other users of the machine."""
        for path in (self._root, self._instances, self._logs, self._trash):
            path.mkdir(parents=True, exist_ok=True, mode=0o700)

    def folder(self, instance: str) -> InstanceDir:
        """Raises ValueError for a name that is none of ours (it must never become a path)."""
        if InstanceName.parse(instance) is None:
            raise ValueError(f"not an instance name: {instance!r}")
        return InstanceDir(self._instances / instance)

    def names(self) -> Iterator[str]:
        for path in self._instances.iterdir():
            name = InstanceName.parse(path.name)
            if name is not None and name.install == self._install:
                yield path.name

    def kept_logs(self, instance: str) -> Path:
        return self._logs / instance

    def keep_logs(self, folder: InstanceDir) -> None:
        """Leave of an instance its logs, where they outlive it, and the claim: a late supervisor, which is in
        this folder still, must find that it is not wanted. What a crash interrupts is done by the next call.
        """
        self.discard(folder.path / "work")
        kept = self._logs / folder.path.name
        try:
            folder.path.rename(kept)
        except OSError:
            # Logs of that name are there already: an earlier version was interrupted in its removal.
            for path in folder.path.glob(f"{LOG}*"):
                path.replace(kept / path.name)
            self.discard(folder.path)
            return
        for path in kept.iterdir():
            if not path.name.startswith((LOG, STATE)):
                self._delete(path)

    def discard(self, path: Path) -> None:
        """Take a folder out of sight in one step, an empty one for good; `empty_trash` deletes the others."""
        with contextlib.suppress(FileNotFoundError):
            try:
                path.rmdir()
            except OSError:
                path.rename(self._trash / f"{path.name}.{os.urandom(4).hex()}")

    def empty_trash(self) -> None:
        """Slow for large working directories: for a thread."""
        for path in self._trash.iterdir():
            shutil.rmtree(path, ignore_errors=True)

    def _delete(self, path: Path) -> None:
        try:
            path.unlink()
        except IsADirectoryError:
            # The workload made it, beside its own folder.
            self.discard(path)


def utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _parse_claim(line: str) -> Identity | None:
    """None for "void" and for what a power cut left unreadable: either way nothing runs under it."""
    match line.split():
        case [pid, start_ticks, boot] if pid.isdigit() and start_ticks.isdigit():
            return Identity(int(pid), int(start_ticks), boot)
        case _:
            return None
