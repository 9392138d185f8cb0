"""Commands that wait go on over a kill -9 of the server and its next start on the same port."""

from __future__ import annotations

import json
import os
import pty
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from hypervisor.cli.core.failures import SERVER_AWAY
from hypervisor.client import Client, RetryPolicy
from hypervisor.client.deployments import has_ended
from tests.e2e.cli_user import PASSWORD, CliUser, registered_user
from tests.support import forkserver
from tests.support.server import HypervisorServer
from tests.support.wait import PROMPT, eventually_sync

COUNT = """
n=0
cd {folder}
while [ ! -e stop ]; do
    n=$((n + 1)); echo $n; echo $n > written.tmp; mv written.tmp written; sleep 0.02
done
exit {code}
"""
AWAIT = "until [ -e {} ]; do sleep 0.02; done"
AWAY = "the server does not answer; trying again for"


@dataclass
class Counter:
    """A job that prints 1, 2, 3, ... until it may end."""

    folder: Path
    id: int

    @property
    def written(self) -> int:
        """How many lines it has printed, whether or not a server runs."""
        file = self.folder / "written"
        return int(file.read_text() or 0) if file.exists() else 0

    def let_write(self, lines: int) -> None:
        wanted = self.written + lines
        eventually_sync(lambda: self.written >= wanted, what=f"{lines} more lines")

    def end(self) -> None:
        (self.folder / "stop").touch()


@dataclass
class Background:
    """A command that runs while the server is killed."""

    process: forkserver.Process
    out: Path
    err: Path

    @property
    def lines(self) -> list[str]:
        return self.out.read_text().splitlines()

    def has_lines(self, number: int) -> None:
        eventually_sync(lambda: len(self.lines) >= number, what=f"{number} lines of {self.process.args}")

    def reported_outages(self) -> int:
        return self.err.read_text().count(AWAY)

    def end(self) -> int:
        return self.process.wait(PROMPT)


@pytest.fixture
def ada(server: HypervisorServer, tmp_path: Path) -> CliUser:
    user = registered_user(tmp_path, server.url, "ada")
    user.run_ok("org", "create", "Team")
    user.run_ok("cluster", "create", "lab", "--cpu", "4", "--ram", "4")
    return user


@contextmanager
def background(ada: CliUser, *arguments: str, stdout: str | None = None) -> Iterator[Background]:
    number = len(list(ada.home.glob("out-*")))
    out, err = ada.home / f"out-{number}", ada.home / f"err-{number}"
    out.touch()
    order = forkserver.Order(
        arguments, ada.environment | {"TERM": "xterm"}, ada.home, stdout=stdout or str(out), stderr=str(err)
    )
    process = forkserver.start(order)
    try:
        yield Background(process, out, err)
    finally:
        process.kill()
        process.wait(PROMPT)


def count_job(ada: CliUser, name: str = "count", code: int = 0) -> Counter:
    folder = ada.home / name
    folder.mkdir()
    command = ["sh", "-c", COUNT.format(folder=folder, code=code)]
    deployed = ada.run_json("deploy", name, "--job", "--cpu", "0.1", "--ram", "0.1", "--", *command)
    counter = Counter(folder, deployed["id"])
    counter.let_write(5)
    return counter


def numbers(last: int) -> list[str]:
    return [str(number) for number in range(1, last + 1)]


def test_a_followed_log_has_every_line_once(server: HypervisorServer, ada: CliUser) -> None:
    counter = count_job(ada)
    with (
        background(ada, "logs", "-f", "count", "--tail", "10000") as text,
        background(ada, "--json", "logs", "-f", "count", "--tail", "10000") as as_json,
    ):
        text.has_lines(5)
        as_json.has_lines(5)
        for _ in range(2):
            server.kill()
            counter.let_write(30)
            server.start()
            text.has_lines(counter.written)
        server.kill()
        counter.let_write(30)
        counter.end()
        server.start()
        assert (text.end(), as_json.end()) == (0, 0)
        assert text.lines == numbers(counter.written)
        assert [json.loads(line)["line"] for line in as_json.lines] == numbers(counter.written)
        assert text.reported_outages() == 3
        assert text.err.read_text().splitlines()[-1] == "count: SUCCEEDED"


def test_a_followed_log_without_old_lines_loses_none(server: HypervisorServer, ada: CliUser) -> None:
    counter = count_job(ada)
    with background(ada, "logs", "-f", "count", "--tail", "0") as follower:
        follower.has_lines(1)
        server.kill()
        counter.let_write(150)
        counter.end()
        server.start()
        assert follower.end() == 0
        begin = int(follower.lines[0])
        assert follower.lines == numbers(counter.written)[begin - 1 :]


def test_identical_lines_are_each_shown_once(server: HypervisorServer, ada: CliUser) -> None:
    """While the server is away, the log grows past two of its files."""
    command = (
        f"cd {ada.home}; yes tick | head -100; touch begun; {AWAIT.format('go')}; yes tick | head -2500000"
    )
    flags = ["--job", "--cpu", "0.1", "--ram", "0.1"]
    ada.run_ok(
        "deploy", "ticks", *flags, "--", "sh", "-c", f"{command}; touch written; {AWAIT.format('stop')}"
    )
    eventually_sync((ada.home / "begun").exists)
    eventually_sync(lambda: ada.run_ok("logs", "ticks").stdout.count("tick") == 100, what="100 lines")
    with background(ada, "logs", "-f", "ticks", "--tail", "5") as follower:
        follower.has_lines(5)
        server.kill()
        (ada.home / "go").touch()
        eventually_sync((ada.home / "written").exists)
        server.start()
        (ada.home / "stop").touch()
        assert follower.end() == 0
        assert follower.lines == ["tick"] * 2_500_005


@pytest.mark.parametrize(("code", "expected", "state"), [(0, 0, "SUCCEEDED"), (3, 1, "FAILED")])
def test_deploy_wait_tells_the_end_of_the_job(
    server: HypervisorServer, ada: CliUser, code: int, expected: int, state: str
) -> None:
    folder = ada.home / "job"
    folder.mkdir()
    command = ["sh", "-c", COUNT.format(folder=folder, code=code)]
    flags = ["--job", "--cpu", "0.1", "--ram", "0.1", "--wait"]
    with background(ada, "deploy", "job", *flags, "--", *command) as waiting:
        counter = Counter(folder, 1)
        counter.let_write(5)
        server.kill()
        eventually_sync(lambda: waiting.reported_outages() == 1)
        counter.end()
        server.start()
        assert waiting.end() == expected
        assert f"job (id 1): {state}" in waiting.out.read_text()
        assert waiting.reported_outages() == 1


def test_followed_events_are_each_shown_once(server: HypervisorServer, ada: CliUser) -> None:
    with background(ada, "--json", "events", "-f", "--tail", "10000") as follower:
        first, second = count_job(ada, "first"), count_job(ada, "second")
        follower.has_lines(6)
        for counter in (first, second):
            server.kill()
            counter.end()
            server.start()
            ended = f'"deployment_id": {counter.id}'
            eventually_sync(lambda ended=ended: _ended(follower, ended), what="the end")  # type: ignore[misc]
        shown = [json.loads(line)["id"] for line in follower.lines]
    every = [event["id"] for event in ada.run_json("events", "--tail", "10000")]
    assert shown == every[: len(shown)]


def test_a_live_table_goes_on(server: HypervisorServer, ada: CliUser) -> None:
    count_job(ada)
    with background(ada, "watch", "--all", "-i", "0.2") as table:
        table.has_lines(3)
        server.kill()
        eventually_sync(lambda: table.reported_outages() == 1)
        server.start()
        seen = len(table.lines)
        table.has_lines(seen + 3)
        assert table.process.poll() is None
        assert table.reported_outages() == 1


def test_top_on_a_terminal_goes_on(server: HypervisorServer, ada: CliUser) -> None:
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    with background(ada, "top", "-i", "0.2", stdout=os.ttyname(theirs)) as top:
        eventually_sync(lambda: b"lab" in _read(ours))
        server.kill()
        eventually_sync(lambda: top.reported_outages() == 1)
        _read(ours)
        server.start()
        eventually_sync(lambda: _read(ours))
        assert top.process.poll() is None
    os.close(ours)
    os.close(theirs)


@pytest.mark.parametrize("arguments", [("logs", "-f", "count"), ("watch", "-i", "0.2"), ("events", "-f")])
def test_the_bound_has_its_own_exit_code(
    server: HypervisorServer, ada: CliUser, arguments: tuple[str, ...]
) -> None:
    count_job(ada)
    with background(ada, *arguments, "--retry-seconds", "0.5") as waiting:
        waiting.has_lines(1)
        server.kill()
        assert waiting.end() == SERVER_AWAY == 75
        reported, failed = waiting.err.read_text().splitlines()
        assert reported.startswith(AWAY)
        assert failed.startswith("error: gave up after 0.5 s without the server: cannot reach ")


def test_a_server_with_other_data_ends_the_wait(server: HypervisorServer, ada: CliUser) -> None:
    count_job(ada)
    with background(ada, "logs", "-f", "count") as follower:
        follower.has_lines(1)
        server.kill()
        (server.folder / "hypervisor.db").rename(server.folder / "old.db")
        for name in ("hypervisor.db-wal", "hypervisor.db-shm"):
            (server.folder / name).unlink(missing_ok=True)
        shutil.rmtree(server.data_dir / "secrets", ignore_errors=True)
        server.start()
        assert follower.end() == 1
        assert follower.err.read_text().splitlines()[-1].startswith("error: ")


def test_the_sdk_goes_on(server: HypervisorServer, ada: CliUser) -> None:
    reported: list[float] = []
    policy = RetryPolicy(PROMPT, lambda _error, seconds: reported.append(seconds))
    counter = count_job(ada)
    with Client(server.url, retry=policy) as client:
        client.accounts.login("ada", PASSWORD)
        lines = iter(client.deployments.follow_logs(counter.id, tail=10_000))
        read = [next(lines) for _ in range(5)]
        server.kill()
        counter.let_write(20)
        server.start()
        read += [next(lines) for _ in range(20)]
        server.kill()
        counter.end()
        server.start()
        ended = client.deployments.wait(counter.id, has_ended, timeout=PROMPT)
        assert ended["status"] == "SUCCEEDED"
        assert read + list(lines) == numbers(counter.written)
        assert set(reported) == {PROMPT}


def _ended(follower: Background, deployment: str) -> bool:
    return any(deployment in line and '"to_state": "SUCCEEDED"' in line for line in follower.lines)


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 1_000_000)
    except BlockingIOError:
        return b""
