"""The files of the process runtime: one directory for each instance, and the logs of removed instances.

instances/<name>/launch    time of the start, ports, control group (JSON); never command or environment
                 state     line 1 the claim (pid, start time, boot; or "void"), then "copier PID", "exit N",
                           "finished T"
                 stop      the stop order (JSON)
                 log*      output of the workload, see `log_files`
                 work/     its working directory
logs/<name>/               logs and claim of a removed instance, until `purge_logs`
trash/                     directories to delete
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hypervisor.kernel.names import InstanceName
from hypervisor.runtimes.process import owned_files
from hypervisor.runtimes.process.instance_state import DAMAGED, VOID, InstanceState, parse_state
from hypervisor.runtimes.process.procfs import is_supervised

LOG = "log"
STATE = "state"


@dataclass(frozen=True, slots=True)
class LaunchRecord:
    """The content of the `launch` file."""

    started_at: datetime
    ports: dict[int, int]
    """Host port by declared port."""
    cgroup: Path | None = None
    """The control group of the workload, where the server could create one."""


@dataclass(frozen=True, slots=True)
class StopOrder:
    """A requested stop. `deadline` is the time of the SIGKILL in seconds since the epoch."""

    deadline: float
    grace: float
    sent: bool = False
    """SIGTERM was sent."""
    killed: bool = False
    """SIGKILL was sent."""

    @classmethod
    def parse(cls, fields: Any) -> StopOrder:
        """From JSON. Raises ValueError, TypeError, KeyError or OverflowError."""
        deadline, grace = float(fields["deadline"]), float(fields["grace"])
        if not (math.isfinite(deadline) and math.isfinite(grace)):
            raise ValueError(f"no time: {deadline}, {grace}")
        return cls(deadline, grace, fields["sent"] is True, fields["killed"] is True)

    def remaining(self, now: float) -> float:
        """Seconds of grace left. Never more than `grace`, even if the wall clock was set back."""
        return min(self.grace, max(0.0, self.deadline - now))


class InstanceDir:
    """The directory of one instance."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._state = path / STATE

    def prepare(self, record: LaunchRecord) -> LaunchRecord:
        """Create the directory and its launch file unless they exist. Return the stored launch record."""
        (self.path / "work").mkdir(parents=True, exist_ok=True)
        fields = {"started_at": record.started_at.isoformat(), "ports": list(record.ports.items())}
        text = json.dumps(fields | ({"cgroup": str(record.cgroup)} if record.cgroup else {}))
        draft = self.path / f".launch.{os.getpid()}"
        draft.write_text(text)
        try:
            os.link(draft, self.path / "launch")
        except FileExistsError:
            return self.launch() or record
        finally:
            draft.unlink()
        return record

    def launch(self) -> LaunchRecord | None:
        """Return the stored launch record. None if it is missing or unreadable."""
        try:
            data = json.loads(owned_files.read(self.path / "launch"))
            ports = {int(port): int(host_port) for port, host_port in data["ports"]}
            cgroup = Path(data["cgroup"]) if "cgroup" in data else None
            return LaunchRecord(datetime.fromisoformat(data["started_at"]), ports, cgroup)
        except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
            return None

    def state(self) -> InstanceState | None:
        """Return the stored state. None while no supervisor has written its claim.

        Raises OSError in a shortage only: a file that the workload damaged is a damaged state.
        """
        try:
            text = owned_files.read(self._state)
            if "\n" not in text:
                # A supervisor creates the file before it writes. The file is final if no supervisor lives.
                if is_supervised(self.path.name):
                    return None
                text = owned_files.read(self._state)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno in owned_files.SHORTAGES:
                raise
            return DAMAGED
        return parse_state(text)

    def claim_void(self) -> bool:
        """Claim the instance so that no supervisor can. False if it is claimed already."""
        try:
            with self._state.open("x") as file:
                file.write(f"{VOID}\n")
        except FileExistsError:
            return False
        return True

    def record_exit(self, code: int) -> None:
        """Append the exit code, for a supervisor that could not write it."""
        self._append(f"exit {code}")

    def record_finished(self, at: float) -> None:
        """Append the end (seconds since the epoch): no process of the instance is left."""
        self._append(f"finished {at!r}")

    def changed_at(self) -> float:
        """Time of the last write to `state`, in seconds since the epoch. Raises OSError.

        This is the end of the instance if its supervisor wrote last.
        """
        try:
            return self._state.lstat().st_mtime
        except PermissionError:
            owned_files.unlock(self.path)
            return self._state.lstat().st_mtime

    def stop_order(self) -> StopOrder | None:
        """Return the stored stop order. None if it is missing or unreadable."""
        try:
            return StopOrder.parse(json.loads(owned_files.read(self.path / "stop")))
        except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError):
            return None

    def write_stop_order(self, order: StopOrder) -> None:
        """Replace the stop order in one step."""
        draft = self.path / ".stop"
        draft.write_text(json.dumps(asdict(order)))
        draft.replace(self.path / "stop")

    def _append(self, line: str) -> None:
        owned_files.append(self._state, f"{line}\n")


class StateRoot:
    """The state directory of one installation."""

    def __init__(self, root: Path, install: str) -> None:
        self._install = install
        self._instances = root / "instances"
        self._logs = root / "logs"
        self._trash = root / "trash"
        self._root = root

    def create(self) -> None:
        """Create the missing directories, closed to other users of the machine."""
        for path in (self._root, self._instances, self._logs, self._trash):
            path.mkdir(parents=True, exist_ok=True, mode=0o700)

    def instance_dir(self, name: str) -> InstanceDir:
        """Return the directory of an instance, which may not exist yet.

        Raises ValueError for text that is not an instance name: it must never become a path.
        """
        if InstanceName.parse(name) is None:
            raise ValueError(f"not an instance name: {name!r}")
        return InstanceDir(self._instances / name)

    def instance_names(self) -> Iterator[str]:
        """The instances of this installation that have a directory."""
        for path in self._instances.iterdir():
            name = InstanceName.parse(path.name)
            if name is not None and name.install == self._install:
                yield path.name

    def archived_logs(self, name: str) -> Path:
        """The directory that holds the logs of an instance after its removal."""
        return self._logs / name

    def archive_logs(self, directory: InstanceDir) -> None:
        """Move the logs and the claim of an instance to the archive, and discard its other files.

        The claim stays because a late supervisor may still be in this directory: it must find that the
        instance is taken. After a crash the next call completes the removal.
        """
        owned_files.unlock(directory.path)
        self.discard(directory.path / "work")
        archived = self._logs / directory.path.name
        try:
            directory.path.rename(archived)
        except OSError:
            # The archive exists: an earlier version was interrupted during its removal.
            for path in directory.path.glob(f"{LOG}*"):
                path.replace(archived / path.name)
            self.discard(directory.path)
            return
        for path in archived.iterdir():
            if not path.name.startswith((LOG, STATE)):
                self._delete(path)

    def discard(self, path: Path) -> None:
        """Remove an empty directory, or move it to the trash in one step. A missing directory is fine."""
        with contextlib.suppress(FileNotFoundError):
            try:
                path.rmdir()
            except OSError:
                owned_files.move(path, self._trash / f"{path.name}.{os.urandom(4).hex()}")

    def empty_trash(self) -> None:
        """Delete what is in the trash. Slow for large working directories: call it in a thread."""
        for path in self._trash.iterdir():
            owned_files.delete(path)

    def _delete(self, path: Path) -> None:
        try:
            path.unlink()
        except IsADirectoryError:
            # The workload created it outside of its working directory.
            self.discard(path)


def utc(seconds: float) -> datetime:
    """Seconds since the epoch as a datetime in UTC."""
    return datetime.fromtimestamp(seconds, UTC)
