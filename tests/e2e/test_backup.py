"""A backup taken while a server accepts work, and its restore: it has everything that was accepted before."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from hypervisor.client import Client
from tests.support.people import registered_client
from tests.support.server import HypervisorServer, running_server
from tests.support.wait import eventually_sync

FIRST = 15


def hypervisor(server: HypervisorServer, *arguments: str, **settings: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hypervisor", *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env=server.environment | settings,
        cwd=server.folder,
    )
    assert done.returncode == 0, done.stderr


@contextmanager
def submitting(client: Client) -> Iterator[list[int]]:
    """Submit deployments in the background. Yields the ids of the accepted ones."""
    accepted: list[int] = []
    enough = threading.Event()

    def submit() -> None:
        while not enough.is_set():
            created = client.deployments.create(
                {"name": f"work-{len(accepted)}", "labels": {"simulate/log": "x"}}
            )
            accepted.append(created["id"])

    thread = threading.Thread(target=submit)
    thread.start()
    try:
        yield accepted
    finally:
        enough.set()
        thread.join()


def test_a_backup_under_load_has_everything_that_was_accepted_before(tmp_path: Path) -> None:
    archive = tmp_path / "saved.tar.gz"
    with running_server(tmp_path / "old", DEFAULT_RUNTIME="simulated") as old:
        with registered_client(old.url) as ada:
            ada.clusters.create("c", {"runtime": "simulated", "total_cpu_cores": 5, "total_ram_gb": 5})
            with submitting(ada) as accepted:
                eventually_sync(lambda: len(accepted) >= FIRST, within=60)
                before = list(accepted)
                hypervisor(old, "backup", str(archive))
                during = len(accepted)
                eventually_sync(lambda: len(accepted) > during, within=60)
        old.kill()
        restored = tmp_path / "restored.db"
        hypervisor(old, "restore", str(archive), DATABASE_URL=f"sqlite:///{restored}")
    with closing(sqlite3.connect(restored)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        there = {id_ for (id_,) in connection.execute("SELECT id FROM deployments")}
        assert set(before) <= there <= set(accepted)
        (last,) = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'deployments'").fetchone()
        assert last > max(accepted)
