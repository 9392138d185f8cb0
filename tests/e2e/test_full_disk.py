"""A full disk under a real server: running jobs continue, no new job starts, and the server recovers.

On a small tmpfs, which only root may mount. tests/component/control/reconciler/test_full_disk.py tests the
loops on a nearly full disk, tests/component/api/test_limits.py tests requests on a full one.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from hypervisor.client import ApiError, Client
from tests.support.people import all_in, registered_client
from tests.support.server import HypervisorServer, running_server
from tests.support.wait import eventually_sync

MIB = 1024 * 1024
SIZE, RESERVE = 64, 16
"""The size of the disk and the reserve of the server, in MiB."""


class Disk:
    """A tmpfs with a file that uses its space."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def leave(self, mib: int) -> None:
        """Fill the disk and leave `mib` free.

        The server writes meanwhile, so the free space is checked repeatedly.
        """
        with self._ballast.open("ab") as file:
            for _ in range(1000):
                free = os.statvfs(self.folder)
                surplus = free.f_bavail * free.f_frsize - mib * MIB
                if surplus <= 0:
                    return
                with suppress(OSError):
                    os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, surplus)
        raise AssertionError("the disk cannot be filled")

    def empty(self) -> None:
        self._ballast.unlink(missing_ok=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small disk")
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}m", "tmpfs", str(folder)]
    if (done := subprocess.run(mount, capture_output=True, text=True)).returncode:
        pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def server(disk: Disk) -> Iterator[HypervisorServer]:
    with running_server(disk.folder / "server", DISK_MIN_FREE_MB=str(RESERVE)) as started:
        yield started


def test_running_jobs_survive_a_full_disk(disk: Disk, server: HypervisorServer) -> None:
    gate = server.folder.parent / "gate"
    job: dict[str, object] = {
        "kind": "job",
        "command": ["sh", "-c", f"until [ -e {gate} ]; do sleep 0.1; done"],
    }
    with registered_client(server.url) as ada:
        ada.clusters.create("lab", {"runtime": "process", "total_cpu_cores": 4, "total_ram_gb": 4})
        before = ada.deployments.create({**job, "name": "before"})["id"]
        all_in(ada, [before], "RUNNING")

        disk.leave(RESERVE // 2)
        after = ada.deployments.create({**job, "name": "after"})["id"]

        def is_reported() -> bool:
            found = ada.deployments.get(after)
            return (found["status"], found["reason_code"]) == ("QUEUED", "no_room_on_disk")

        eventually_sync(is_reported, within=60, every=0.2)
        assert "running processes continue" in ada.deployments.explain(after)["sentence"]

        disk.leave(0)
        refused = _submit_until_refused(ada, job)
        assert (refused.status, refused.code) == (507, "disk_full")
        assert ada.deployments.get(before)["status"] == "RUNNING"

        disk.empty()
        all_in(ada, [after], "RUNNING", within=90)
        gate.touch()
        all_in(ada, [before, after], "SUCCEEDED", within=90)
        assert [ada.deployments.get(one)["attempts_made"] for one in (before, after)] == [1, 1]
    assert "request.failed" not in server.log.read_text()


def _submit_until_refused(ada: Client, job: dict[str, object]) -> ApiError:
    """Submit jobs with large environments until the database has no space left in its log."""
    env = {f"WORDS_{number}": "x" * 30_000 for number in range(20)}
    for number in range(200):
        try:
            ada.deployments.create({**job, "name": f"more-{number}", "env": env})
        except ApiError as error:
            if error.status != 503:
                return error
    raise AssertionError("the disk never filled up")
