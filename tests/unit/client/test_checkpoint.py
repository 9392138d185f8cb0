"""Checkpoint reports: they never raise, and the token goes to no other server."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from hypervisor.client import checkpoint

Response = tuple[int, dict[str, str], dict[str, Any]]


@contextmanager
def server(*responses: Response) -> Iterator[tuple[str, list[tuple[str, dict[str, Any]]]]]:
    """A server with these responses in order. Yields its URL and the received (authorization, body) pairs."""
    received: list[tuple[str, dict[str, Any]]] = []
    remaining = list(responses)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            received.append((self.headers["Authorization"], body))
            status, headers, content = remaining.pop(0)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(json.dumps(content).encode())

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.server_port}/checkpoint", received
        finally:
            listening.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "_renewed_tokens", {})
    for name in ("CHECKPOINT_URL", "CHECKPOINT_TOKEN", "PREVIOUS_ATTEMPT", "PREVIOUS_CHECKPOINT"):
        monkeypatch.delenv(f"HV_{name}", raising=False)


def use(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("HV_CHECKPOINT_URL", url)
    monkeypatch.setenv("HV_CHECKPOINT_TOKEN", "first")


def test_without_a_server_a_report_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert checkpoint.report(progress=0.5) is False
    assert checkpoint.previous() is None
    use(monkeypatch, "file:///etc/passwd")
    assert checkpoint.report(progress=0.5) is False


def test_a_renewed_token_replaces_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    with server((200, {}, {"token": "second"}), (200, {}, {"token": None})) as (url, received):
        use(monkeypatch, url)
        assert checkpoint.report(progress=0.5, message="two\nlines " + "x" * 600)
        assert checkpoint.report(step=3, path="/models/3")
    (first, body), (second, other) = received
    assert (first, second) == ("Bearer first", "Bearer second")
    assert body["progress"] == 0.5
    assert body["message"].startswith("two lines x")
    assert len(body["message"]) == 500
    assert other == {"step": 3, "path": "/models/3"}


def test_only_insist_sends_a_second_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    with server((429, {}, {}), (429, {}, {}), (200, {}, {})) as (url, received):
        use(monkeypatch, url)
        assert checkpoint.report(progress=0.5) is False
        assert checkpoint.report(progress=1, insist=True) is True
    assert len(received) == 3


def test_refusals_and_connection_errors_do_not_raise(monkeypatch: pytest.MonkeyPatch) -> None:
    with server((401, {}, {}), (500, {}, {})) as (url, _):
        use(monkeypatch, url)
        assert checkpoint.report(progress=0.5, insist=True) is False
        assert checkpoint.report(progress=0.5) is False
    assert checkpoint.report(progress=0.5) is False


def test_the_token_does_not_follow_a_redirect(monkeypatch: pytest.MonkeyPatch) -> None:
    with server((200, {}, {})) as (elsewhere, redirected):
        with server((302, {"Location": elsewhere}, {})) as (url, _):
            use(monkeypatch, url)
            assert checkpoint.report(progress=0.5) is False
        assert redirected == []


def test_the_previous_attempt_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HV_PREVIOUS_ATTEMPT", "2")
    monkeypatch.setenv("HV_PREVIOUS_OUTCOME", "preempted")
    assert checkpoint.previous() == {"attempt": 2, "outcome": "preempted", "checkpoint": None}
    monkeypatch.setenv("HV_PREVIOUS_CHECKPOINT", '{"attempt": 1, "step": 5}')
    before = checkpoint.previous()
    assert before is not None
    assert before["checkpoint"] == {"attempt": 1, "step": 5}


def test_the_file_works_without_the_package(tmp_path: Path) -> None:
    source = Path(checkpoint.__file__).read_text(encoding="utf-8")
    (tmp_path / "checkpoint.py").write_text(source, encoding="utf-8")
    script = "import checkpoint; print(checkpoint.report(progress=1), checkpoint.previous())"
    done = subprocess.run(
        [sys.executable, "-S", "-c", script],
        capture_output=True, text=True, check=True, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert done.stdout.split() == ["False", "None"]
