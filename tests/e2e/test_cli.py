"""The command line against a real server that runs real processes."""

from __future__ import annotations

import os
import pty
import signal
import stat
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from tests.e2e.people import PASSWORD, Person, newcomer
from tests.support.server import HypervisorServer
from tests.support.servers import free_port
from tests.support.wait import PROMPT, eventually_sync


@pytest.fixture(scope="module")
def ada(shared_server: HypervisorServer, tmp_path_factory: pytest.TempPathFactory) -> Person:
    """An admin with an organization and a small cluster."""
    person = newcomer(tmp_path_factory.mktemp("people"), shared_server.url, "ada")
    person.do("org", "create", "Vision team")
    person.do("cluster", "create", "lab", "--cpu", "4", "--ram", "4", "--gpu", "2")
    return person


def test_a_job_is_followed_to_its_end_and_read(ada: Person) -> None:
    done = ada.do(
        "deploy", "hello", "--job", "--wait", "--", "sh", "-c", 'echo "it works on $CUDA_VISIBLE_DEVICES."'
    )
    assert "SUCCEEDED" in done.stdout
    assert "hello: SUCCEEDED" in done.stderr

    assert ada.do("logs", "hello").stdout == "it works on .\n"
    assert ada.do("logs", "-f", "hello").stdout == "it works on .\n"
    states = [event["to_state"] for event in ada.ask("events", "hello")]
    assert states == ["QUEUED", "STARTING", "RUNNING", "SUCCEEDED"]
    (attempt,) = ada.ask("attempts", "hello")
    assert (attempt["outcome"], attempt["exit_code"], attempt["node_name"]) == ("succeeded", 0, "node-1")


def test_a_job_that_fails_makes_wait_exit_1(ada: Person) -> None:
    outcome = ada.run("deploy", "broken", "--job", "--wait", "--json", "--", "sh", "-c", "exit 3")
    assert outcome.code == 1
    assert outcome.data["exit_code"] == 3
    assert outcome.stderr == "error: did not succeed: broken (see `hypervisor explain`, `hypervisor logs`)\n"


def test_a_service_is_waited_for_until_it_runs_then_stopped_started_and_deleted(ada: Person) -> None:
    service = ada.ask("deploy", "svc", "--wait", "--port", "8080", "--gpu", "1", "--", "sleep", "300")
    assert service["status"] == "RUNNING"
    assert service["endpoints"][0]["url"].startswith("http://127.0.0.1:")
    assert "svc" in ada.do("ps").stdout
    (node,) = ada.ask("cluster", "nodes", "lab")
    assert sorted(device["used"] for device in node["gpus"]) == [0, 1]

    assert ada.ask("stop", "svc", "--wait")["status"] == "STOPPED"
    assert "svc" not in ada.do("ps").stdout
    assert "svc" in ada.do("ps", "-a").stdout
    assert ada.ask("start", "svc")["status"] == "QUEUED"
    assert ada.ask("cancel", "svc", "--wait")["status"] == "CANCELLED"
    assert "deleted" in ada.do("rm", "svc").stdout
    assert ada.run("show", "svc").code == 1


def test_what_does_not_fit_says_why_and_a_higher_priority_gets_a_receipt(ada: Person) -> None:
    ada.do("deploy", "low", "--job", "--cpu", "4", "--priority", "LOW", "--", "sleep", "300")
    eventually_sync(lambda: ada.ask("show", "low")["status"] == "RUNNING")
    ada.do("deploy", "next", "--job", "--cpu", "1", "--priority", "LOW", "--", "true")
    eventually_sync(lambda: ada.ask("show", "next")["reason_data"])

    why = ada.ask("explain", "next")
    assert why["reason"]["shortfall"]["cpu_cores"] == 1
    assert "missing    1 CPU on node-1" in ada.do("explain", "next").stdout

    ada.do("deploy", "urgent", "--job", "--cpu", "2", "-p", "HIGH", "--wait", "--", "true")
    (receipt,) = ada.ask("explain", "urgent")["receipts"]
    assert [victim["name"] for victim in receipt["victims"]] == ["low"]
    assert "low (priority 100" in ada.do("explain", "low").stdout
    ada.do("cancel", "low", "next", "--wait")


def test_a_file_brings_several_that_depend_on_each_other(ada: Person) -> None:
    work = ada.home / "work.yaml"
    work.write_text(
        "cluster: lab\nkind: job\nlabels: {project: files}\ndeployments:\n"
        "- {name: second, command: cat made, depends_on: [first], env: {N: 1}, cpu: 0.5}\n"
        "- {name: first, command: sh -c 'echo done > made', cpu: 0.5}\n"
    )
    outcome = ada.run("deploy", "-f", str(work), "--wait", "--json")
    # Each attempt has a folder of its own, so the second one finds nothing; the order is what matters here.
    assert outcome.code == 1
    second, first = outcome.data
    assert (first["status"], second["status"]) == ("SUCCEEDED", "FAILED")
    assert second["started_at"] >= first["finished_at"]
    listed = ada.ask("ps", "-a", "-l", "project=files")
    assert [each["name"] for each in listed] == ["first", "second"]


def test_another_person_joins_by_code_and_may_only_do_what_the_role_allows(
    ada: Person, shared_server: HypervisorServer, tmp_path: Path
) -> None:
    ben = newcomer(tmp_path, shared_server.url, "ben")
    assert ben.run("cluster", "list").code in (0, 1)
    code = ada.do("org", "invite").stdout.strip()
    assert "developer" in ben.do("org", "join", code).stdout
    refused = ben.run("cluster", "create", "mine", "--cpu", "1", "--ram", "1")
    assert refused.code == 1
    assert refused.stderr.startswith("error: ")
    assert len(refused.stderr.splitlines()) == 1

    assert ada.ask("org", "role", "ben", "viewer")["role"] == "viewer"
    assert ben.run("deploy", "x", "--job", "--", "true").code == 1
    ada.do("org", "remove", "ben")
    assert "Vision team" not in ben.do("whoami").stdout


def test_nodes_are_added_cordoned_drained_and_removed(ada: Person) -> None:
    ada.do("cluster", "create", "racks", "--node", "name=r,count=2,cpu=2,ram=2,label.zone=a")
    ada.do("cluster", "add-node", "racks", "extra", "--cpu", "1", "--ram", "1")
    assert ada.ask("cluster", "cordon", "racks", "extra")["status"] == "cordoned"
    assert ada.ask("cluster", "uncordon", "racks", "extra")["status"] == "ready"
    ada.do("cluster", "drain", "racks", "extra")
    assert ada.ask("cluster", "remove-node", "racks", "extra")["deleted"] is True
    assert [node["name"] for node in ada.ask("cluster", "show", "racks")["nodes"]] == ["r-1", "r-2"]
    assert "r-1" in ada.do("top", "--once", "-c", "racks").stdout
    ada.do("cluster", "delete", "racks")


def test_the_organization_has_one_history(ada: Person) -> None:
    types = {event["type"] for event in ada.ask("events", "--tail", "1000")}
    assert {"organization.created", "cluster.created", "deployment.state"} <= types


def test_events_follow_what_happens(ada: Person, tmp_path: Path) -> None:
    heard = tmp_path / "heard.txt"
    with heard.open("w") as output:
        follower = subprocess.Popen(
            [sys.executable, "-m", "hypervisor", "events", "-f", "--tail", "0"],
            stdout=output,
            stderr=subprocess.PIPE,
            text=True,
            env=ada.environment | {"PYTHONUNBUFFERED": "1"},
        )

    def hears() -> bool:
        ada.do("deploy", "noise", "--job", "--wait", "--", "true")
        return "RUNNING → SUCCEEDED" in heard.read_text(encoding="utf-8")

    try:
        eventually_sync(hears, every=0.2)
        follower.send_signal(signal.SIGINT)
        _, errors = follower.communicate(timeout=PROMPT)
    finally:
        follower.kill()
    assert follower.returncode == 130
    assert errors == ""


def test_credentials_are_for_the_owner_alone_and_logout_ends_the_session(
    shared_server: HypervisorServer, tmp_path: Path
) -> None:
    cleo = newcomer(tmp_path, shared_server.url, "cleo")
    path = cleo.home / ".config" / "hypervisor" / "credentials.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    kept = path.read_text()
    assert PASSWORD not in kept

    cleo.do("logout")
    assert "token" not in path.read_text()
    path.write_text(kept)
    refused = cleo.run("whoami")
    assert refused.code == 1
    assert "hypervisor login" in refused.stderr
    cleo.do("login", "cleo")
    assert cleo.ask("whoami")["username"] == "cleo"


def test_a_password_is_asked_for_at_a_terminal_without_showing_it(
    shared_server: HypervisorServer, tmp_path: Path
) -> None:
    dora = newcomer(tmp_path, shared_server.url, "dora")
    environment = {key: value for key, value in dora.environment.items() if key != "HYPERVISOR_PASSWORD"}
    nobody = subprocess.run(
        [sys.executable, "-m", "hypervisor", "login", "dora"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert nobody.returncode == 2

    terminal, side = pty.openpty()
    asked = subprocess.Popen(
        [sys.executable, "-m", "hypervisor", "login", "dora"],
        stdin=side,
        stdout=side,
        stderr=side,
        env=environment,
    )
    os.close(side)
    shown = b""
    while b"Password" not in shown:
        shown += os.read(terminal, 1024)
    # What is typed before the echo is off would be flushed away.
    eventually_sync(lambda: not termios.tcgetattr(terminal)[3] & termios.ECHO)
    os.write(terminal, f"{PASSWORD}\n".encode())
    assert asked.wait(PROMPT) == 0
    assert PASSWORD.encode() not in shown + os.read(terminal, 4096)
    os.close(terminal)


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["nonsense"], 2, "error: no such command: nonsense (see `hypervisor --help`)"),
        (["dploy"], 2, "error: no such command: dploy; did you mean deploy? (see `hypervisor --help`)"),
        (["ps", "--limit", "x"], 2, "error: Invalid value for '--limit'"),
        (["deploy"], 2, "error: set a name, or a file with -f (see `hypervisor deploy --help`)"),
        (["cluster", "create", "x"], 2, "error: set either --cpu and --ram"),
        (["deploy", "-f", "missing.yaml"], 1, "error: missing.yaml: No such file or directory"),
        (["show", "no-such-one"], 1, "error: there is no deployment 'no-such-one'"),
        (["org", "show", "nobody"], 1, "error: there is no organization 'nobody'; known: Vision team"),
        (["deploy", "x", "--cpu", "99", "--", "true"], 1, "error: "),
        (["org", "join", "wrong"], 1, "error: This invite code is not valid"),
        (["ps", "--url", "ftp://x"], 1, "error: 'ftp://x' is not an http:// or https:// URL"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_failure_is_one_line_and_an_exit_code(
    ada: Person, arguments: list[str], code: int, line: str
) -> None:
    outcome = ada.run(*arguments)
    assert outcome.code == code
    assert outcome.stderr.startswith(line)
    assert len(outcome.stderr.splitlines()) == 1
    assert outcome.stdout == ""


def test_an_unreachable_server_is_reported_with_advice(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    outcome = Person(tmp_path, url).run("ps")
    assert outcome.code == 1
    assert (
        outcome.stderr
        == f"error: cannot reach {url}: is the server running? start it with `hypervisor serve`\n"
    )


def test_a_reader_that_goes_away_is_no_error(ada: Person) -> None:
    command = f"{sys.executable} -m hypervisor watch -a -i 0.2 --json | head -n 1"
    done = subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        text=True,
        timeout=PROMPT,
        env=ada.environment,
        check=False,
    )
    assert done.stdout.startswith("[")
    assert done.stderr == ""


def test_colours_only_on_a_terminal(ada: Person) -> None:
    assert "\x1b[" not in ada.do("ps", "-a").stdout
    for extra, coloured in (
        ({"TERM": "xterm-256color"}, True),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, False),
    ):
        terminal, side = pty.openpty()
        done = subprocess.Popen(
            [sys.executable, "-m", "hypervisor", "ps", "-a"],
            stdout=side,
            stderr=side,
            env=ada.environment | extra,
        )
        os.close(side)
        shown = _read_all(terminal)
        assert done.wait(PROMPT) == 0
        assert (b"\x1b[31m" in shown or b"\x1b[32m" in shown) is coloured


def _read_all(terminal: int) -> bytes:
    shown = b""
    try:
        while part := os.read(terminal, 4096):
            shown += part
    except OSError:
        # The other side of a pseudo-terminal closes with an error instead of an end.
        pass
    os.close(terminal)
    return shown


def test_the_doctor_looks_at_a_running_server(shared_server: HypervisorServer) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hypervisor", "doctor"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=shared_server.environment | {"DISK_MIN_FREE_MB": "0"},
        cwd=shared_server.folder,
    )
    assert done.returncode == 0, done.stdout
    assert done.stderr == "No problems found.\n"
    assert f"{shared_server.url} is ready, version" in done.stdout
