"""No argument, file, variable, response or terminal makes a command fail with an unexpected error."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypervisor.cli.core import streams
from hypervisor.cli.main import run
from tests.component.cli.described import FIRST_ID, Described
from tests.support.wait import PROMPT
from tests.unit.client.scripted import Request, Response, ScriptedServer, scripted

ID = str(FIRST_ID)
BYTE = "\udcff"
"""A byte of an argument that is not UTF-8, as Python represents it."""
JOBS = "arrival_seconds,duration_seconds,cpu_cores\n0,10,1\n"
API = Described("日本語 ümläut …", "→ no room for 🚀")
TEXTS = (
    "",
    " ",
    BYTE,
    f"a{BYTE}b",
    "\udc80=\udc80",
    "\ud800",
    "日本語",
    "🚀",
    "a\nb",
    "=",
    "-",
    "--",
    "-1",
    "9" * 400,
    "1e999",
    "nan",
    "x" * 5000,
    "/",
    "/proc/self/mem",
    "\x1b[31m",
    "http://[::1",
    "name=x,cpu=1,ram=nan",
    "+999999999%",
)
COMMANDS: tuple[tuple[str, ...], ...] = (
    ("show", "{}"),
    ("logs", "{}"),
    ("explain", "{}"),
    ("attempts", "{}"),
    ("events", "{}"),
    ("stop", ID, "{}"),
    ("rm", "{}"),
    ("ps", "--label", "{}"),
    ("ps", "--state", "{}"),
    ("ps", "--limit", "{}"),
    ("ps", "--cluster", "{}"),
    ("ps", "--url", "{}"),
    ("ps", "--org", "{}"),
    ("--json", "ps", "--name", "{}"),
    ("watch", "--once", "--cluster", "{}"),
    ("top", "--once", "--cluster", "{}"),
    ("queue", "{}"),
    ("decisions", "{}"),
    ("replay", "{}"),
    ("deploy", "{}"),
    ("deploy", "x", "--job", "--", "{}"),
    ("deploy", "x", "--cpu", "{}"),
    ("deploy", "x", "--env", "{}"),
    ("deploy", "x", "--secret", "{}"),
    ("deploy", "x", "--after", "{}"),
    ("deploy", "x", "--retry-on", "{}"),
    ("deploy", "x", "--image", "{}", "--plan"),
    ("login", "{}"),
    ("register", "{}", "--email", "{}"),
    ("org", "join", "{}"),
    ("org", "show", "{}"),
    ("org", "role", "{}", "admin"),
    ("cluster", "show", "{}"),
    ("cluster", "create", "{}", "--cpu", "1", "--ram", "1"),
    ("cluster", "create", "x", "--node", "{}"),
    ("cluster", "create", "x", "--cpu", "{}", "--ram", "1"),
    ("cluster", "add-node", ID, "{}", "--cpu", "1", "--ram", "1"),
    ("cluster", "cordon", ID, "{}"),
    ("simulate", "--workload", "{}", "--nodes", "1x1gpu"),
    ("simulate", "--workload", "jobs.csv", "--nodes", "{}"),
    ("simulate", "--workload", "jobs.csv", "--nodes", "1x8cpu,8gb", "--vs", "{}"),
    ("simulate", "--workload", "jobs.csv", "--nodes", "1x8cpu,8gb", "--quotas", "{}"),
    ("simulate", "--workload", "jobs.csv", "--nodes", "1x8cpu,8gb", "--html", "{}"),
    ("simulate", "--workload", "jobs.csv", "--nodes", "1x8cpu,8gb", "--json", "{}"),
    ("backup", "{}"),
    ("restore", "{}"),
    ("{}",),
    ("--{}",),
    ("cluster", "{}"),
)
SHORT: tuple[tuple[str, ...], ...] = (
    ("ps",),
    ("--json", "ps"),
    ("watch", "--once"),
    ("top", "--once"),
    ("show", ID),
    ("show", "a-name"),
    ("explain", ID),
    ("events", ID),
    ("events",),
    ("attempts", ID),
    ("logs", ID),
    ("logs", "-f", ID),
    ("queue", ID),
    ("decisions", ID),
    ("replay", "1"),
    ("cluster", "list"),
    ("cluster", "show", ID),
    ("cluster", "nodes", ID),
    ("cluster", "shares"),
    ("cluster", "fragmentation", ID),
    ("cluster", "consolidation", ID),
    ("org", "list"),
    ("org", "members"),
    ("org", "invite"),
    ("org", "join", "code"),
    ("whoami",),
    ("login", "ada"),
    ("register", "ada", "--email", "ada@example.com"),
    ("logout",),
    ("deploy", "x", "--job", "--", "true"),
    ("deploy", "x", "--plan"),
    ("start", ID),
    ("stop", ID),
    ("rm", ID),
)


@pytest.fixture(autouse=True)
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user with a home folder, in a folder with a workload file."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HYPERVISOR_TOKEN", "token")
    monkeypatch.setenv("HYPERVISOR_PASSWORD", "a long sentence")
    monkeypatch.setenv("HYPERVISOR_RETRY_SECONDS", "0")
    (tmp_path / "jobs.csv").write_text(JOBS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def api() -> Iterator[ScriptedServer]:
    with scripted(API.respond) as server:
        yield server


def check(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command; the error line. Fails for an unexpected error, a traceback or a second line."""
    streams.prepare_streams()
    code = run(streams.decode_arguments(arguments))
    output = capsys.readouterr()
    shown = f"{arguments!r}: {code}, {output.err}"
    assert code in (0, 1, 2, 75, 130), shown
    assert "unexpected error" not in output.err, shown
    assert "Traceback" not in output.err, shown
    assert code != 1 or output.err.count("error: ") == 1, shown
    return output.err


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: ascii(text[:20]))
def test_arguments(
    text: str, api: ScriptedServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HYPERVISOR_URL", api.url)
    for command in COMMANDS:
        check(tuple(part.replace("{}", text) for part in command), capsys)


def test_a_byte_that_is_not_utf_8_is_named(
    api: ScriptedServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HYPERVISOR_URL", api.url)
    sent = len(api.requests)
    for command in (("deploy", "x", "--job", "--", "echo", BYTE), ("deploy", "x", "-e", f"A={BYTE}")):
        assert r"contains \xff, which is not valid UTF-8" in check(command, capsys)
    assert not any(request.method == "POST" for request in api.requests[sent:])
    assert check(("deploy", "-f", f"missing{BYTE}.yaml"), capsys) == (
        "error: missing\\xff.yaml: No such file or directory\n"
    )


FOREIGN = {
    "HTML": Response(200, "<html>", "text/html"),
    "no content type": Response(200, "hello", ""),
    "text": Response(200, "hello", "text/plain"),
    "list": Response(200, [1, 2]),
    "text in JSON": Response(200, "5", "application/json"),
    "null": Response(200, "null", "application/json"),
    "no JSON": Response(200, "{nope", "application/json"),
    "deep JSON": Response(200, "[" * 100_000, "application/json"),
    "empty": Response(200),
    "no content": Response(204),
    "empty object": Response(200, {}),
    "items that are no list": Response(200, {"items": 3}),
    "items that are no objects": Response(200, {"items": [1, 2]}),
    "items without fields": Response(200, {"items": [{}, {}]}),
    "items with an id": Response(200, {"items": [{"id": 1}], "next_cursor": None}),
    "a redirect": Response(302, "", "text/html", {"Location": "/elsewhere"}),
    "a redirect without target": Response(304),
    "numbers in a problem": Response(400, {"detail": 5, "title": [], "code": 7}),
    "objects in a problem": Response(500, {"detail": {"a": [1]}, "request_id": [3]}),
    "a problem that is a list": Response(500, [5]),
    "HTML of a proxy": Response(502, "<html>Bad gateway", "text/html"),
    "an unauthorized page": Response(401, "<html>", "text/html"),
    "a forbidden page": Response(403, "", "text/html"),
    "an unknown status": Response(799, "hello", "text/plain"),
    "invalid compression": Response(200, "hello", "application/json", {"Content-Encoding": "gzip"}),
    "invalid encoding": Response(200, "hello", "application/json; charset=nonsense"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_responses_of_other_servers(
    kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with scripted(lambda _request: FOREIGN[kind]) as server:
        monkeypatch.setenv("HYPERVISOR_URL", server.url)
        for command in SHORT:
            check(command, capsys)


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("HTML", "is not from a Hypervisor server (Content-Type text/html): check the URL"),
        ("no JSON", "is not from a Hypervisor server (no valid JSON): check the URL"),
        ("list", "is not from a Hypervisor server (no JSON object): check the URL"),
        ("empty object", "is not from a Hypervisor server (the JSON has no 'items'): check the URL"),
        ("numbers in a problem", "the server answered 400 Bad Request"),
    ],
)
def test_a_foreign_response_is_explained(
    kind: str, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with scripted(lambda _request: FOREIGN[kind]) as server:
        monkeypatch.setenv("HYPERVISOR_URL", server.url)
        assert line in check(("ps",), capsys)


VARIABLES = {
    "HYPERVISOR_URL": (
        "http://h?x=1",
        "http://u:secret@h",
        "http://a..b",
        f"http://{BYTE}",
        "http://h:99999",
    ),
    "HYPERVISOR_ORG": (BYTE, "\n", "9" * 100),
    "HYPERVISOR_TOKEN": ("a\nb", " ", "é", BYTE, "a b", "\x7f"),
    "HYPERVISOR_PASSWORD": (BYTE, "\n"),
    "HOME": ("", "/nonexistent", "/dev/null", BYTE, "relative"),
    "XDG_CONFIG_HOME": ("/nonexistent", "/dev/null", "/proc", BYTE, "relative"),
    "TERM": ("", "dumb", "nonsense", BYTE),
    "COLUMNS": ("0", "1", "-5", "nonsense", "٣", "999999"),
    "LINES": ("0", "x"),
    "NO_COLOR": ("", "1"),
    "FORCE_COLOR": ("1",),
    "LANG": ("C", "nonsense"),
    "TZ": ("nonsense", ":/dev/null"),
    "ALL_PROXY": ("socks5://h", "ftp://h", "http://[", BYTE, "é"),
    "HTTP_PROXY": ("http://127.0.0.1:1", "x:y:z", " "),
    "NO_PROXY": ("[", "*", BYTE),
    "SSL_CERT_FILE": ("/nonexistent", "/dev/null", "/"),
    "SSL_CERT_DIR": ("/nonexistent",),
}


@pytest.mark.parametrize("name", VARIABLES)
def test_environment_variables(
    name: str, api: ScriptedServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HYPERVISOR_URL", api.url)
    for value in VARIABLES[name]:
        if name in ("HOME", "XDG_CONFIG_HOME"):
            monkeypatch.delenv("HYPERVISOR_TOKEN", raising=False)
        monkeypatch.setenv(name, value)
        for command in (("ps",), ("top", "--once"), ("--json", "ps"), ("login", "ada"), ("events", ID)):
            check(command, capsys)
        check(("ps", "--url", "https://127.0.0.1:1"), capsys)
    assert not Path("/nonexistent").exists()


CREDENTIALS: tuple[bytes, ...] = (
    b"",
    b"{nope",
    b"\xff\xfe\x00",
    b"[]",
    b"null",
    b"[" * 100_000,
    b'{"servers": 3}',
    b'{"default": 3}',
    b'{"servers": {"URL": 3}}',
    b'{"servers": {"URL": {}}}',
    b'{"servers": {"URL": {"access_token": 5}}}',
    b'{"servers": {"URL": {"access_token": "a", "refresh_token": 7}}}',
)
"""Damaged contents; URL is that of the server."""


@pytest.mark.parametrize("content", CREDENTIALS, ids=lambda content: ascii(content[:50]))
def test_a_damaged_credentials_file_is_named_with_the_remedy(
    content: bytes,
    api: ScriptedServer,
    user: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("HYPERVISOR_TOKEN")
    monkeypatch.setenv("HYPERVISOR_URL", api.url)
    path = user / ".config" / "hypervisor" / "credentials.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(content.replace(b"URL", api.url.encode()))
    for command in SHORT:
        if command[0] not in ("login", "register"):
            line = check(command, capsys)
            assert line == f"error: {path} is damaged: delete it and log in again with `hypervisor login`\n"
    assert path.read_bytes() == content.replace(b"URL", api.url.encode())


def test_a_credentials_path_that_is_a_folder_is_named(
    api: ScriptedServer, user: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("HYPERVISOR_TOKEN")
    monkeypatch.setenv("HYPERVISOR_URL", api.url)
    path = user / ".config" / "hypervisor" / "credentials.json"
    path.mkdir(parents=True)
    assert f"cannot read {path} (Is a directory)" in check(("ps",), capsys)


def test_a_user_without_a_home_folder_needs_a_token(
    api: ScriptedServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unknown(_uid: int) -> object:
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setenv("HYPERVISOR_URL", api.url)
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", unknown)
    assert check(("ps",), capsys) == ""
    monkeypatch.delenv("HYPERVISOR_TOKEN")
    assert check(("logout",), capsys) == ""
    with scripted(_login) as server:
        assert "set HOME or XDG_CONFIG_HOME" in check(("login", "ada", "--url", server.url), capsys)


def _login(request: Request) -> Response:
    return Response(200, {"access_token": "a", "refresh_token": "r", "username": "ada"})


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "cp1252", "utf-8", "utf-16", "koi8-r"])
def test_terminal_encodings(encoding: str, api: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYPERVISOR_URL", api.url)
    for command in SHORT:
        output, errors = _run_with_encoding(encoding, command, monkeypatch)
        assert "unexpected error" not in errors, (command, errors)
        if command == ("--json", "ps"):
            assert json.loads(output)[0]["name"] == API.name
        if command == ("ps",):
            assert "QUEUED" in output
            rows = [line for line in output.splitlines() if "MEDIUM" in line]
            assert len({line.index("MEDIUM") for line in rows}) == 1


def _run_with_encoding(
    encoding: str, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> tuple[str, str]:
    written = [io.BytesIO(), io.BytesIO()]
    with monkeypatch.context() as patch:
        for name, buffer in zip(("stdout", "stderr"), written, strict=True):
            patch.setattr(sys, name, io.TextIOWrapper(buffer, encoding=encoding))
        streams.prepare_streams()
        code = run(command)
        streams.finish_streams()
        assert code in (0, 1)
        output, errors = (buffer.getvalue().decode(encoding) for buffer in written)
    return output, errors


def test_a_locale_without_utf_8(api: ScriptedServer, user: Path) -> None:
    environment = _environment(api, user) | {
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
    }
    for command in (["show", "日本語"], ["--json", "ps", "--name", "日本語"]):
        sent = len(api.requests)
        done = subprocess.run(
            [sys.executable, "-m", "hypervisor", *command],
            env=environment,
            cwd=user,
            capture_output=True,
            timeout=PROMPT,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout.isascii()
        assert "name=%E6%97%A5%E6%9C%AC%E8%AA%9E" in api.requests[sent].path


@pytest.mark.parametrize(
    ("redirection", "code"),
    [
        (">&-", 0),
        ("2>&-", 0),
        ("<&- >&- 2>&-", 0),
        (">/dev/full", 1),
        ("2>/dev/full", 0),
        (">/dev/full 2>&1", 1),
        ("| true", None),
    ],
)
def test_closed_and_full_streams(redirection: str, code: int | None, api: ScriptedServer, user: Path) -> None:
    commands = ("ps", "--json events", "--help", "top --once")
    running = [
        subprocess.Popen(
            ["bash", "-c", f"{sys.executable} -m hypervisor {command} {redirection}"],
            env=_environment(api, user),
            cwd=user,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for command in commands
    ]
    for process, command in zip(running, commands, strict=True):
        _, errors = process.communicate(timeout=PROMPT)
        assert code is None or process.returncode == code, (command, errors)
        full = "error: cannot write the output: No space left on device\n"
        assert errors == (full if redirection == ">/dev/full" else ""), command


def test_usage_errors_keep_their_exit_code_without_stderr(user: Path) -> None:
    for redirection in ("2>&-", "2>/dev/full"):
        command = f"{sys.executable} -m hypervisor nonsense {redirection}"
        done = subprocess.run(["bash", "-c", command], cwd=user, timeout=PROMPT, check=False)
        assert done.returncode == 2


def _environment(api: ScriptedServer, user: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(user),
        "HYPERVISOR_URL": api.url,
        "HYPERVISOR_TOKEN": "token",
    }
