"""`hypervisor logs` writes what the workload wrote: to pipes, to terminals and as JSON."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from hypervisor.client import Client, MemoryTokens, Tokens
from tests.e2e.cli_user import CliUser, registered_user
from tests.support.server import HypervisorServer
from tests.support.wait import PROMPT, eventually_sync


@pytest.fixture(scope="module")
def ada(shared_server: HypervisorServer, tmp_path_factory: pytest.TempPathFactory) -> CliUser:
    person = registered_user(tmp_path_factory.mktemp("people"), shared_server.url, "ada")
    person.run_ok("org", "create", "Vision team")
    person.run_ok("cluster", "create", "lab", "--cpu", "4", "--ram", "4")
    return person


def test_a_line_is_the_same_in_every_output(ada: CliUser) -> None:
    run_job(
        ada, "separators", "printf 'ep 1\\rep 2\\npage\\fbreak\\n\\302\\205\\342\\200\\250\\nwin\\r\\nrest'"
    )
    lines = ["ep 1\rep 2", "page\fbreak", "\x85\u2028", "win\r", "rest"]
    text = "\n".join(lines)
    assert ada.run_ok("logs", "separators").stdout == text
    assert ada.run_ok("logs", "-f", "separators").stdout == text
    assert ada.run_ok("logs", "--tail", "2", "separators").stdout == "win\r\nrest"
    assert ada.run_ok("logs", "--tail", "0", "separators").stdout == ""
    assert ada.run_json("logs", "separators")["lines"] == lines
    assert followed_json(ada, "separators") == lines
    assert ada.run_json("logs", "separators", "--tail", "2")["lines"] == lines[-2:]


def test_the_whole_output_is_printed_unless_it_is_cut(ada: CliUser) -> None:
    run_job(ada, "many", "seq 1 500")
    lines = [str(number) for number in range(1, 501)]
    text = "\n".join(lines) + "\n"
    assert ada.run_ok("logs", "many").stdout == text
    assert ada.run_ok("logs", "-f", "many").stdout == text
    assert ada.run_json("logs", "many")["lines"] == lines
    assert followed_json(ada, "many") == lines
    assert ada.run_ok("logs", "many", "--tail", "499").stdout == text.removeprefix("1\n")


def test_a_line_may_have_any_length(ada: CliUser) -> None:
    length = 5 * 1024 * 1024 + 1
    run_job(ada, "long", f"echo first; head -c {length} /dev/zero | tr '\\0' x; echo é; echo last")
    text = "first\n" + "x" * length + "é\nlast\n"
    assert ada.run_ok("logs", "long").stdout == text
    assert ada.run_ok("logs", "-f", "long").stdout == text
    assert ada.run_ok("logs", "--tail", "1", "long").stdout == "last\n"
    assert ada.run_ok("logs", "-f", "--tail", "2", "long").stdout == text.removeprefix("first\n")
    assert ada.run_json("logs", "long")["lines"] == text.split("\n")[:-1]
    assert followed_json(ada, "long") == text.split("\n")[:-1]


def test_output_without_a_line_end_is_read(ada: CliUser) -> None:
    length = 20_000_000
    run_job(ada, "endless", f"head -c {length} /dev/zero | tr '\\0' x")
    for options in ([], ["-f"], ["--tail", "1"]):
        output = ada.run_ok("logs", "endless", *options).stdout
        assert (len(output), set(output)) == (length, {"x"})


def test_characters_across_chunks_are_whole(ada: CliUser) -> None:
    """The first character shifts the others, so that some of them lie across every boundary."""
    program = "import os; os.write(1, ('x' + 'é語🙂' * 150_000 + '\\n').encode())"
    run_job(ada, "unicode", f'python3 -c "{program}"')
    for options in ([], ["-f"], ["--json"], ["-f", "--json"]):
        output = ada.run_ok("logs", "unicode", *options).stdout
        assert output.count("é語🙂") == 150_000
        assert "\ufffd" not in output


def test_bytes_and_colours_reach_a_pipe_unchanged(ada: CliUser) -> None:
    run_job(ada, "bytes", "printf '\\033[31mred\\033[0m \\377\\000\\r\\n'")
    output = ada.run_ok("logs", "bytes").stdout.encode(errors="surrogateescape")
    assert output == b"\x1b[31mred\x1b[0m \xff\x00\r\n"
    assert ada.run_ok("logs", "-f", "bytes").stdout == "\x1b[31mred\x1b[0m \ufffd\x00\r\n"


@pytest.mark.parametrize("options", [[], ["-f"]])
def test_a_terminal_shows_progress_and_colours_and_obeys_nothing_else(
    ada: CliUser, options: list[str]
) -> None:
    if not options:
        run_job(ada, "hostile", "printf '1 %%\\r2 %%\\n\\033[31mred\\033[0m\\033]0;title\\007\\n\\f'")
    shown = on_a_terminal(ada, "logs", "hostile", *options)
    assert shown.startswith(b"1 %\r2 %\r\n\x1b[31mred\x1b[0m^[]0;title^G\r\n^L\x1b[0m\r\n")


def test_a_progress_bar_is_followed_before_its_line_ends(ada: CliUser, tmp_path: Path) -> None:
    ada.run_ok("deploy", "bar", "--", "sh", "-c", "printf '1 %%\\r2 %%'; sleep 300")
    output = tmp_path / "output"
    with output.open("wb") as file:
        following = subprocess.Popen(
            [sys.executable, "-m", "hypervisor", "logs", "-f", "bar"], stdout=file, env=ada.environment
        )
        try:
            eventually_sync(lambda: output.read_bytes() == b"1 %\r2 %", what="the progress")
        finally:
            following.kill()
            following.wait(PROMPT)
    ada.run_ok("stop", "bar")


def test_the_sdk_reads_the_same_lines(ada: CliUser) -> None:
    run_job(ada, "sdk", "printf 'ep 1\\rep 2\\n'; head -c 2000000 /dev/zero | tr '\\0' x; printf '\\nrest'")
    with Client(ada.url, tokens=MemoryTokens(Tokens(access_token(ada)))) as client:
        deployment_id = ada.run_json("show", "sdk")["id"]
        stream = client.deployments.follow_logs(deployment_id)
        assert list(stream) == ["ep 1\rep 2", "x" * 2_000_000, "rest"]
        assert stream.final_state == "SUCCEEDED"
        assert client.deployments.logs(deployment_id, tail=1) == "rest"


def run_job(user: CliUser, name: str, script: str) -> None:
    user.run_ok("deploy", name, "--job", "--cpu", "0.1", "--ram", "0.1", "--wait", "--", "sh", "-c", script)


def followed_json(user: CliUser, name: str) -> list[str]:
    output = user.run_ok("logs", "-f", "--json", name).stdout
    return [json.loads(document)["line"] for document in output.removesuffix("\n").split("\n")]


def access_token(user: CliUser) -> str:
    (file,) = user.home.rglob("credentials*.json")
    (session,) = json.loads(file.read_text())["servers"].values()
    return str(session["access_token"])


def on_a_terminal(user: CliUser, *arguments: str) -> bytes:
    terminal, side = pty.openpty()
    command = subprocess.Popen(
        [sys.executable, "-m", "hypervisor", *arguments],
        stdout=side,
        stderr=side,
        env=user.environment | {"TERM": "xterm"},
    )
    os.close(side)
    shown = b""
    with suppress(OSError):
        # A pseudo-terminal ends with an error instead of an empty read.
        while data := os.read(terminal, 4096):
            shown += data
    os.close(terminal)
    assert command.wait(PROMPT) == 0
    return shown
