"""A private Docker engine for one test, which may kill it; the machine's engine is not affected.

The engine has its own data, sockets, network and mounts. containerd, network and mounts outlive the engine,
as on a real machine, so that its containers may outlive it too (`--live-restore`).
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from tests.support import docker
from tests.support.docker import Api
from tests.support.servers import spawn, stop
from tests.support.wait import eventually_sync

Start = Callable[..., "subprocess.Popen[bytes]"]
"""Starts or restarts the engine with further options; waits until it responds and has the test image."""

PROGRAMS = ("dockerd", "containerd", "unshare", "nsenter")
_FIRST_ANSWER_WITHIN = 120.0


@contextmanager
def short_folder() -> Iterator[Path]:
    """A folder with a short path: the engine nests sockets in it, and socket paths are limited."""
    with tempfile.TemporaryDirectory(prefix="hv-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@contextmanager
def own_engine(folder: Path, *options: str) -> Iterator[Start]:
    """A function that starts the engine of this folder, at `endpoint_of(folder)`. Skips where no engine can
    run; removes all its containers and processes afterwards.
    """
    busybox = docker.static_busybox()
    if busybox is None or os.geteuid() != 0 or not all(map(shutil.which, PROGRAMS)):
        pytest.skip(f"a private engine needs root, a static busybox, {', '.join(PROGRAMS)}")
    api = Api(endpoint_of(folder))
    engines: list[subprocess.Popen[bytes]] = []

    def start(*more: str) -> subprocess.Popen[bytes]:
        command = _enter(home.pid, _command(folder, *options, *more))
        engines.append(spawn(command, log=folder / "dockerd.log"))
        eventually_sync(lambda: _answers(api), within=_FIRST_ANSWER_WITHIN, what="the engine responds")
        docker.import_image(api, busybox)
        return engines[-1]

    home = _own_namespaces(folder)
    below = spawn(_enter(home.pid, _containerd(folder)), log=folder / "containerd.log")
    try:
        yield start
        with suppress(OSError):
            docker.clean_up_all(api)
    finally:
        for engine in engines:
            stop(engine, signal.SIGTERM, within=30)
        for process in (below, home):
            stop(process, signal.SIGTERM)
        _end_what_is_left(folder)


def endpoint_of(folder: Path) -> str:
    """The endpoint of the engine of this folder."""
    return f"unix://{folder / 'engine.sock'}"


def _command(folder: Path, *options: str) -> list[str]:
    (folder / "daemon.json").write_text("{}")
    return [
        *(
            "dockerd",
            "--config-file",
            str(folder / "daemon.json"),
            "--containerd",
            str(folder / "below.sock"),
        ),
        *("--data-root", str(folder / "data"), "--exec-root", str(folder / "exec")),
        *("--pidfile", str(folder / "pid"), "--host", endpoint_of(folder), *options),
    ]


def _containerd(folder: Path) -> list[str]:
    config = folder / "containerd.toml"
    config.write_text('version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n')
    command = ["containerd", "--config", str(config), "--address", str(folder / "below.sock")]
    return [*command, "--root", str(folder / "below"), "--state", str(folder / "below-state")]


def _own_namespaces(folder: Path) -> subprocess.Popen[bytes]:
    """A process that only keeps a network namespace and a mount namespace open."""
    process = spawn(["unshare", "--net", "--mount", "sleep", "infinity"], log=folder / "namespaces.log")
    own = Path("/proc/self/ns/mnt").readlink()
    process_namespace = Path(f"/proc/{process.pid}/ns/mnt")
    eventually_sync(lambda: process_namespace.readlink() != own, what="separate namespaces")
    return process


def _enter(pid: int, command: list[str]) -> list[str]:
    return ["nsenter", "--target", str(pid), "--net", "--mount", *command]


def _answers(api: Api) -> bool:
    try:
        return bool(api.json("GET", "/version"))
    except OSError:
        return False


def _end_what_is_left(folder: Path) -> None:
    """Kill the remaining processes after a failed test: containers run under their own supervisors."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if any(str(folder) in part for part in process.cmdline()):
                for one in (*process.children(recursive=True), process):
                    one.kill()
