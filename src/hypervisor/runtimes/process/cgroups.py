"""Control groups: one for each instance, which no process of the instance can leave by `setsid` or a fork.

They are used for membership only, never for limits, below the control group of the server. Version 2 is tried
first, then the hierarchies of version 1 that have no setting to inherit. A server that may not create any (an
unprivileged user without delegation, most containers) uses `spawner.SubreaperSpawner` instead.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hypervisor.kernel.names import InstanceName

HIERARCHIES = ("", "name=systemd", "pids", "freezer")
"""Controllers of the usable hierarchies, the preferred one first. Version 2 has the empty name."""

_MOVE_ITSELF = 'echo 0 >"$1"'


@dataclass(frozen=True, slots=True)
class Cgroup:
    """The control group of one instance, which may be missing: it is then empty."""

    path: Path

    def create(self) -> None:
        """Create the group. Raises OSError."""
        self.path.mkdir(exist_ok=True)

    def pids(self) -> list[int]:
        """The processes in the group and in groups that the workload created below it."""
        found: list[int] = []
        for group in self._groups():
            with contextlib.suppress(OSError):
                found += [int(pid) for pid in (group / "cgroup.procs").read_text().split()]
        return found

    def kill(self) -> None:
        """Kill all processes in one step, so that no fork escapes. Without effect before Linux 5.14."""
        with contextlib.suppress(OSError), (self.path / "cgroup.kill").open("r+") as file:
            file.write("1")

    def remove(self) -> None:
        """Remove the group if no process is left in it."""
        for group in reversed(self._groups()):
            with contextlib.suppress(OSError):
                group.rmdir()

    def _groups(self) -> list[Path]:
        """This group and those below it, parents first."""
        return [Path(folder) for folder, _, _ in os.walk(self.path)]


def writable_parent() -> Path | None:
    """The directory in which this process may create control groups and move processes. None without one."""
    return next((path for path in _own_groups() if _can_move_processes(path)), None)


def containment(parent: Path | None) -> str:
    """Tell people how processes that a workload leaves behind are found, with this `writable_parent`."""
    return f"control groups below {parent}" if parent else "child subreapers"


def remove_empty(parent: Path, install: str) -> None:
    """Remove the groups below `parent` of instances of this installation that have no process."""
    with contextlib.suppress(OSError):
        for path in parent.iterdir():
            name = InstanceName.parse(path.name)
            if name is not None and name.install == install:
                Cgroup(path).remove()


def _own_groups() -> Iterator[Path]:
    """The control groups of this process in the usable hierarchies that are mounted."""
    try:
        memberships = dict(_membership(line) for line in _lines("/proc/self/cgroup"))
        mounts = dict(filter(None, map(_mount, _lines("/proc/self/mountinfo"))))
    except (OSError, ValueError):
        return
    for name in HIERARCHIES:
        if name in memberships and name in mounts:
            root, mount_point = mounts[name]
            with contextlib.suppress(ValueError):
                yield mount_point / memberships[name].relative_to(root)


def _membership(line: str) -> tuple[str, Path]:
    """The controllers of a line of /proc/self/cgroup, and the path of the group in their hierarchy."""
    _, controllers, path = line.split(":", 2)
    return controllers, Path(path)


def _mount(line: str) -> tuple[str, tuple[Path, Path]] | None:
    """The hierarchy of a line of /proc/self/mountinfo: its name, its mounted root and its mount point."""
    fields, _, source = line.partition(" - ")
    kind, _, options = source.split(" ", 2)
    root, mount_point = (Path(text) for text in fields.split(" ")[3:5])
    if kind == "cgroup2":
        return "", (root, mount_point)
    usable: Sequence[str] = [name for name in options.split(",") if name and name in HIERARCHIES]
    return (usable[0], (root, mount_point)) if kind == "cgroup" and usable else None


def _lines(path: str) -> list[str]:
    return Path(path).read_text(errors="surrogateescape").splitlines()


def _can_move_processes(parent: Path) -> bool:
    """Try it: a group may be writable although no process can be moved into groups below it."""
    probe = Cgroup(parent / f"hv-probe-{os.getpid()}")
    try:
        probe.create()
        argv = ["/bin/sh", "-c", _MOVE_ITSELF, "sh", str(probe.path / "cgroup.procs")]
        return subprocess.run(argv, capture_output=True, check=False).returncode == 0  # noqa: S603
    except OSError:
        return False
    finally:
        probe.remove()
