"""What workloads use to report: it must never hurt the work, and never send the token elsewhere."""

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

Answer = tuple[int, dict[str, str], dict[str, Any]]


@contextmanager
def server(*answers: Answer) -> Iterator[tuple[str, list[tuple[str, dict[str, Any]]]]]:
    """A server that gives these answers in order; its URL, and what it was sent: (authorization, body)."""
    heard: list[tuple[str, dict[str, Any]]] = []
    left = list(answers)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            heard.append((self.headers["Authorization"], body))
            status, headers, answer = left.pop(0)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.server_port}/checkpoint", heard
        finally:
            listening.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "_renewed", {})
    for name in ("CHECKPOINT_URL", "CHECKPOINT_TOKEN", "PREVIOUS_ATTEMPT", "PREVIOUS_CHECKPOINT"):
        monkeypatch.delenv(f"HV_{name}", raising=False)


def use(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("HV_CHECKPOINT_URL", url)
    monkeypatch.setenv("HV_CHECKPOINT_TOKEN", "first")


def test_by_hand_a_report_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert checkpoint.report(progress=0.5) is False
    assert checkpoint.previous() is None
    use(monkeypatch, "file:///etc/passwd")
    assert checkpoint.report(progress=0.5) is False


def test_a_renewed_token_takes_the_place_of_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    with server((200, {}, {"token": "second"}), (200, {}, {"token": None})) as (url, heard):
        use(monkeypatch, url)
        assert checkpoint.report(progress=0.5, message="two\nlines " + "x" * 600)
        assert checkpoint.report(step=3, path="/models/3")
    (first, body), (second, other) = heard
    assert (first, second) == ("Bearer first", "Bearer second")
    assert body["progress"] == 0.5
    assert body["message"].startswith("two lines x")
    assert len(body["message"]) == 500
    assert other == {"step": 3, "path": "/models/3"}


def test_only_who_insists_tries_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    with server((429, {}, {}), (429, {}, {}), (200, {}, {})) as (url, heard):
        use(monkeypatch, url)
        assert checkpoint.report(progress=0.5) is False
        assert checkpoint.report(progress=1, insist=True) is True
    assert len(heard) == 3


def test_no_answer_and_no_refusal_raise(monkeypatch: pytest.MonkeyPatch) -> None:
    with server((401, {}, {}), (500, {}, {})) as (url, _):
        use(monkeypatch, url)
        assert checkpoint.report(progress=0.5, insist=True) is False
        assert checkpoint.report(progress=0.5) is False
    assert checkpoint.report(progress=0.5) is False


def test_the_token_does_not_follow_a_redirect(monkeypatch: pytest.MonkeyPatch) -> None:
    with server((200, {}, {})) as (elsewhere, stolen):
        with server((302, {"Location": elsewhere}, {})) as (url, _):
            use(monkeypatch, url)
            assert checkpoint.report(progress=0.5) is False
        assert stolen == []


def test_what_came_before_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HV_PREVIOUS_ATTEMPT", "2")
    monkeypatch.setenv("HV_PREVIOUS_OUTCOME", "preempted")
    assert checkpoint.previous() == {"attempt": 2, "outcome": "preempted", "checkpoint": None}
    monkeypatch.setenv("HV_PREVIOUS_CHECKPOINT", '{"attempt": 1, "step": 5}')
    before = checkpoint.previous()
    assert before is not None
    assert before["checkpoint"] == {"attempt": 1, "step": 5}


def test_the_file_alone_is_enough(tmp_path: Path) -> None:
    source = Path(checkpoint.__file__).read_text(encoding="utf-8")
    (tmp_path / "checkpoint.py").write_text(source, encoding="utf-8")
    script = "import checkpoint; print(checkpoint.report(progress=1), checkpoint.previous())"
    done = subprocess.run(
        [sys.executable, "-S", "-c", script],
        capture_output=True, text=True, check=True, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert done.stdout.split() == ["False", "None"]
