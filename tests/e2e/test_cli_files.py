"""Deployment files and commands on the command line, against a real server that runs real processes."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.e2e.cli_user import CliUser, registered_user
from tests.support.server import HypervisorServer

DOCUMENT = (Path(__file__).parents[2] / "docs" / "deployment-files.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def ida(shared_server: HypervisorServer, tmp_path_factory: pytest.TempPathFactory) -> CliUser:
    """An admin with an organization and a small cluster."""
    person = registered_user(tmp_path_factory.mktemp("people"), shared_server.url, "ida")
    person.run_ok("org", "create", "Files team")
    person.run_ok("cluster", "create", "files", "--cpu", "4", "--ram", "4", "--gpu", "2")
    return person


def submit(user: CliUser, text: str) -> None:
    user.run_ok("deploy", "--wait", "-f", "-", stdin=text)


def test_values_of_a_file_reach_the_workload_as_they_are_written(ida: CliUser) -> None:
    values = ["NO", "0644", "1.10", "12:30:45", "1_000", "0o17", "2026-01-01", ".inf", "0x1F", "on", ""]
    names = [f"V{number}" for number in range(len(values))]
    env = "".join(f"  {name}: {value}\n" for name, value in zip(names, values, strict=True))
    arguments = "".join(f"- {value}\n" for value in values)
    head = "kind: job\ncpu: 0.1\nram: 0.1\n"
    submit(ida, f"name: variables\n{head}env:\n{env}command: printenv {' '.join(names)}\n")
    submit(ida, f"name: 2026-01-01\n{head}labels: {{a: NO}}\ncommand:\n- printf\n- '%s\\n'\n{arguments}")

    assert ida.run_ok("logs", "variables").stdout.split("\n")[:-1] == values
    assert ida.run_ok("logs", "2026-01-01").stdout.split("\n")[:-1] == values
    assert ida.run_json("show", "2026-01-01")["labels"] == {"a": "NO"}


def test_a_text_runs_in_a_shell_and_show_tells_the_form(ida: CliUser) -> None:
    script = '  X=5\n  echo one && echo two | tr a-z A-Z > out\n  cat out; echo "X is $X"\n'
    submit(ida, f"name: script\nkind: job\ncpu: 0.1\nram: 0.1\ncommand: |\n{script}")
    assert ida.run_ok("logs", "script").stdout == "one\nTWO\nX is 5\n"
    assert "Shell command" in ida.run_ok("show", "script").stdout

    small = ("--job", "--cpu", "0.1", "--ram", "0.1", "--wait", "--")
    ida.run_ok("deploy", "quoted", *small, "echo a && echo $((1 + 1))")
    assert ida.run_ok("logs", "quoted").stdout == "a\n2\n"
    assert ida.run_json("show", "quoted")["command_form"] == "shell"
    ida.run_ok("deploy", "words", *small, "echo", "a && b", "$HOME")
    assert ida.run_ok("logs", "words").stdout == "a && b $HOME\n"
    assert "Shell command" not in ida.run_ok("show", "words").stdout


def test_a_file_that_cannot_be_used_is_one_line_and_exit_code_2(ida: CliUser, tmp_path: Path) -> None:
    path = tmp_path / "work.yaml"
    for data, line in (
        (b"name: caf\xe9\n", f"{path}:1: not UTF-8"),
        (b"name: a\ncomand: x\n", f"{path}:2: there is no field 'comand'; did you mean 'command'?"),
        (b"deployments: 5\n", f"{path}:1: deployments must be a list"),
    ):
        path.write_bytes(data)
        outcome = ida.run("deploy", "-f", str(path))
        assert outcome.code == 2
        assert outcome.stderr.startswith(f"error: {line}")
        assert outcome.stderr.count("\n") == 1
    assert ida.run("deploy", "-f", str(tmp_path)).stderr == f"error: {tmp_path}: Is a directory\n"


def test_options_are_given_once_and_what_cannot_start_is_refused(ida: CliUser) -> None:
    twice = ida.run("deploy", "x", "--env", "A=1", "--env", "A=2", "--", "true")
    assert (twice.code, twice.stderr.partition(" (see")[0]) == (2, "error: --env A is given twice; keep one")
    least = ida.run("deploy", "x", "--gpu", "0.05", "--", "true")
    assert least.stderr == "error: required_gpu_count: the smallest fraction of a GPU is 0.1, not 0.05.\n"
    variable = ida.run("deploy", "-f", "-", stdin=f"name: x\nenv: {{A: {'v' * 131_070}}}\ncommand: true\n")
    assert (variable.code, variable.stderr.count("\n")) == (2, 1)
    assert "env: the variable A, with its name, has 131,072 bytes" in variable.stderr


def test_the_printed_file_is_accepted(ida: CliUser) -> None:
    _, _, text = DOCUMENT.partition("```yaml\n")
    printed = text.partition("```")[0].replace("cluster: workbench", "cluster: files")
    assert len(yaml.safe_load(printed)["deployments"]) == 2
    prepare, train = ida.run_ok("--json", "deploy", "-f", "-", stdin=printed).data
    assert prepare["env"] == {"COUNTRY": "NO", "MODE": "0644", "EMPTY": ""}
    assert (prepare["command"][-1], train["env"]) == ("1.10", {"EPOCHS": "12", "TOKEN": "***"})
    assert train["command_form"] == "shell"
    ida.run("cancel", "train", "prepare")
