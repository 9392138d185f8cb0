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

from tests.e2e.cli_user import PASSWORD, CliUser, registered_user
from tests.support.server import HypervisorServer
from tests.support.servers import free_port
from tests.support.wait import PROMPT, eventually_sync


@pytest.fixture(scope="module")
def ada(shared_server: HypervisorServer, tmp_path_factory: pytest.TempPathFactory) -> CliUser:
    """An admin with an organization and a small cluster."""
    person = registered_user(tmp_path_factory.mktemp("people"), shared_server.url, "ada")
    person.run_ok("org", "create", "Vision team")
    person.run_ok("cluster", "create", "lab", "--cpu", "4", "--ram", "4", "--gpu", "2")
    return person


def test_a_job_is_waited_for_and_its_log_is_read(ada: CliUser) -> None:
    done = ada.run_ok(
        "deploy", "hello", "--job", "--wait", "--", "sh", "-c", 'echo "it works on $CUDA_VISIBLE_DEVICES."'
    )
    assert done.stdout.count("SUCCEEDED") == 1
    assert "SUCCEEDED" not in done.stderr

    assert ada.run_ok("logs", "hello").stdout == "it works on .\n"
    assert ada.run_ok("logs", "-f", "hello").stdout == "it works on .\n"
    states = [event["to_state"] for event in ada.run_json("events", "hello")]
    assert states == ["QUEUED", "STARTING", "RUNNING", "SUCCEEDED"]
    (attempt,) = ada.run_json("attempts", "hello")
    assert (attempt["outcome"], attempt["exit_code"], attempt["node_name"]) == ("succeeded", 0, "node-1")


def test_a_job_that_fails_makes_wait_exit_1(ada: CliUser) -> None:
    outcome = ada.run("deploy", "broken", "--job", "--wait", "--json", "--", "sh", "-c", "exit 3")
    assert outcome.code == 1
    assert outcome.data["exit_code"] == 3
    assert outcome.stderr == "error: did not succeed: broken (see `hypervisor explain`, `hypervisor logs`)\n"


def test_a_service_is_waited_for_stopped_started_and_deleted(ada: CliUser) -> None:
    service = ada.run_json("deploy", "svc", "--wait", "--port", "8080", "--gpu", "1", "--", "sleep", "300")
    assert service["status"] == "RUNNING"
    assert service["endpoints"][0]["url"].startswith("http://127.0.0.1:")
    assert "svc" in ada.run_ok("ps").stdout
    (node,) = ada.run_json("cluster", "nodes", "lab")
    assert sorted(device["used"] for device in node["gpus"]) == [0, 1]

    assert ada.run_json("stop", "svc", "--wait")["status"] == "STOPPED"
    assert "svc" not in ada.run_ok("ps").stdout
    assert "svc" in ada.run_ok("ps", "-a").stdout
    assert ada.run_json("start", "svc")["status"] == "QUEUED"
    assert ada.run_json("cancel", "svc", "--wait")["status"] == "CANCELLED"
    assert "deleted" in ada.run_ok("rm", "svc").stdout
    assert ada.run("show", "svc").code == 1


def test_a_job_that_others_wait_for_is_deleted_with_force(ada: CliUser) -> None:
    ada.run_ok("deploy", "first", "--job", "--cpu", "1", "--", "sleep", "300")
    ada.run_ok("deploy", "second", "--job", "--cpu", "1", "--after", "first", "--", "true")
    refused = ada.run("rm", "first")
    assert refused.code == 1
    assert "use --force, which cancels them" in refused.stderr
    ada.run_ok("rm", "first", "--force")
    assert ada.run_json("show", "second")["status"] == "CANCELLED"


def test_a_waiting_job_has_a_reason_and_a_preemption_has_a_receipt(ada: CliUser) -> None:
    ada.run_ok("deploy", "low", "--job", "--cpu", "4", "--priority", "LOW", "--", "sleep", "300")
    eventually_sync(lambda: ada.run_json("show", "low")["status"] == "RUNNING")
    ada.run_ok("deploy", "next", "--job", "--cpu", "1", "--priority", "LOW", "--", "true")
    eventually_sync(lambda: ada.run_json("show", "next")["reason_data"])

    why = ada.run_json("explain", "next")
    assert why["reason"]["shortfall"]["cpu_cores"] == 1
    assert "missing    1 CPU on node-1" in ada.run_ok("explain", "next").stdout

    ada.run_ok("deploy", "urgent", "--job", "--cpu", "2", "-p", "HIGH", "--wait", "--", "true")
    (receipt,) = ada.run_json("explain", "urgent")["receipts"]
    assert [victim["name"] for victim in receipt["victims"]] == ["low"]
    assert "low (priority 100" in ada.run_ok("explain", "low").stdout
    ada.run_ok("cancel", "low", "next", "--wait")


def test_a_file_submits_dependent_deployments(ada: CliUser) -> None:
    work = ada.home / "work.yaml"
    work.write_text(
        "cluster: lab\nkind: job\nlabels: {project: files}\ndeployments:\n"
        "- {name: second, command: cat made, depends_on: [first], env: {N: 1}, cpu: 0.5}\n"
        "- {name: first, command: sh -c 'echo done > made', cpu: 0.5}\n"
    )
    outcome = ada.run("deploy", "-f", str(work), "--wait", "--json")
    # Each attempt has a new folder, so the second job fails. The test checks the order.
    assert outcome.code == 1
    second, first = outcome.data
    assert (first["status"], second["status"]) == ("SUCCEEDED", "FAILED")
    assert second["started_at"] >= first["finished_at"]
    listed = ada.run_json("ps", "-a", "-l", "project=files")
    assert [each["name"] for each in listed] == ["first", "second"]


def test_a_user_joins_by_code_and_has_only_the_permissions_of_the_role(
    ada: CliUser, shared_server: HypervisorServer, tmp_path: Path
) -> None:
    ben = registered_user(tmp_path, shared_server.url, "ben")
    assert ben.run("cluster", "list").code in (0, 1)
    code = ada.run_ok("org", "invite").stdout.strip()
    assert "developer" in ben.run_ok("org", "join", code).stdout
    refused = ben.run("cluster", "create", "mine", "--cpu", "1", "--ram", "1")
    assert refused.code == 1
    assert refused.stderr.startswith("error: ")
    assert len(refused.stderr.splitlines()) == 1

    assert ada.run_json("org", "role", "ben", "viewer")["role"] == "viewer"
    assert ben.run("deploy", "x", "--job", "--", "true").code == 1
    ada.run_ok("org", "remove", "ben")
    assert "Vision team" not in ben.run_ok("whoami").stdout


def test_nodes_are_added_cordoned_drained_and_removed(ada: CliUser) -> None:
    ada.run_ok("cluster", "create", "racks", "--node", "name=r,count=2,cpu=2,ram=2,label.zone=a")
    ada.run_ok("cluster", "add-node", "racks", "extra", "--cpu", "1", "--ram", "1")
    assert ada.run_json("cluster", "cordon", "racks", "extra")["status"] == "cordoned"
    assert ada.run_json("cluster", "uncordon", "racks", "extra")["status"] == "ready"
    ada.run_ok("cluster", "drain", "racks", "extra")
    assert ada.run_json("cluster", "remove-node", "racks", "extra")["deleted"] is True
    assert [node["name"] for node in ada.run_json("cluster", "show", "racks")["nodes"]] == ["r-1", "r-2"]
    assert "r-1" in ada.run_ok("top", "--once", "-c", "racks").stdout
    ada.run_ok("cluster", "delete", "racks")


def test_the_organization_has_all_events(ada: CliUser) -> None:
    types = {event["type"] for event in ada.run_json("events", "--tail", "1000")}
    assert {"organization.created", "cluster.created", "deployment.state"} <= types


def test_events_are_followed(ada: CliUser, tmp_path: Path) -> None:
    received = tmp_path / "received.txt"
    with received.open("w") as output:
        follower = subprocess.Popen(
            [sys.executable, "-m", "hypervisor", "events", "-f", "--tail", "0"],
            stdout=output,
            stderr=subprocess.PIPE,
            text=True,
            env=ada.environment | {"PYTHONUNBUFFERED": "1"},
        )

    def has_received() -> bool:
        ada.run_ok("deploy", "noise", "--job", "--wait", "--", "true")
        return "RUNNING → SUCCEEDED" in received.read_text(encoding="utf-8")

    try:
        eventually_sync(has_received, every=0.2)
        follower.send_signal(signal.SIGINT)
        _, errors = follower.communicate(timeout=PROMPT)
    finally:
        follower.kill()
    assert follower.returncode == 130
    assert errors == ""


def test_credentials_are_readable_by_the_owner_only_and_logout_ends_the_session(
    shared_server: HypervisorServer, tmp_path: Path
) -> None:
    cleo = registered_user(tmp_path, shared_server.url, "cleo")
    path = cleo.home / ".config" / "hypervisor" / "credentials.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    kept = path.read_text()
    assert PASSWORD not in kept

    cleo.run_ok("logout")
    assert "token" not in path.read_text()
    path.write_text(kept)
    refused = cleo.run("whoami")
    assert refused.code == 1
    assert "hypervisor login" in refused.stderr
    cleo.run_ok("login", "cleo")
    assert cleo.run_json("whoami")["username"] == "cleo"


def test_a_password_prompt_at_a_terminal_does_not_show_the_input(
    shared_server: HypervisorServer, tmp_path: Path
) -> None:
    dora = registered_user(tmp_path, shared_server.url, "dora")
    environment = {key: value for key, value in dora.environment.items() if key != "HYPERVISOR_PASSWORD"}
    without_terminal = subprocess.run(
        [sys.executable, "-m", "hypervisor", "login", "dora"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert without_terminal.returncode == 2

    terminal, side = pty.openpty()
    prompting = subprocess.Popen(
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
    # Input before the echo is off would be discarded.
    eventually_sync(lambda: not termios.tcgetattr(terminal)[3] & termios.ECHO)
    os.write(terminal, f"{PASSWORD}\n".encode())
    assert prompting.wait(PROMPT) == 0
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
        (["deploy", "-f", "missing.yaml"], 2, "error: missing.yaml: No such file or directory"),
        (["show", "no-such-one"], 1, "error: there is no deployment 'no-such-one'"),
        (["org", "show", "nobody"], 1, "error: there is no organization 'nobody'; known: Vision team"),
        (["deploy", "x", "--cpu", "99", "--", "true"], 1, "error: "),
        (["org", "join", "wrong"], 1, "error: This invite code is not valid"),
        (["ps", "--url", "ftp://x"], 1, "error: 'ftp://x' is not an http:// or https:// URL"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_failure_is_one_line_and_an_exit_code(
    ada: CliUser, arguments: list[str], code: int, line: str
) -> None:
    outcome = ada.run(*arguments)
    assert outcome.code == code
    assert outcome.stderr.startswith(line)
    assert len(outcome.stderr.splitlines()) == 1
    assert outcome.stdout == ""


def test_an_unreachable_server_is_reported_with_advice(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    outcome = CliUser(tmp_path, url).run("ps")
    assert outcome.code == 1
    assert (
        outcome.stderr
        == f"error: cannot reach {url}: is the server running? start it with `hypervisor serve`\n"
    )


def test_a_closed_pipe_is_no_error(ada: CliUser) -> None:
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


def test_colours_only_on_a_terminal(ada: CliUser) -> None:
    assert "\x1b[" not in ada.run_ok("ps", "-a").stdout
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
        # A pseudo-terminal ends with an error instead of an empty read.
        pass
    os.close(terminal)
    return shown


def test_the_doctor_checks_a_running_server(shared_server: HypervisorServer) -> None:
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
