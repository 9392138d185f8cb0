"""For workloads: report what is safe, and learn what came before. Standard library only.

    from hypervisor.client import checkpoint

    before = checkpoint.previous()                 # None on a first attempt
    ...
    checkpoint.report(step=100, progress=0.4, path="s3://models/run-7/step-100")

The file can also be copied beside a workload: it needs nothing else of this package. Where the environment
names no server (the program runs by hand), `report` does nothing.
"""

from __future__ import annotations

import json
import os
import time
from email.message import Message
from typing import IO, Any
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, Request, build_opener

LONGEST_MESSAGE = 500
TOO_SOON = 429
_renewed: dict[str, str] = {}
"""Tokens that the server sent in place of those of the environment."""


class _Stay(HTTPRedirectHandler):
    """The token goes to the server that it is for, and nowhere that this one points to."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> None:
        return None


_OPENER = build_opener(_Stay)


def report(
    *,
    progress: float | None = None,
    step: int | None = None,
    message: str | None = None,
    path: str | None = None,
    insist: bool = False,
    timeout: float = 5.0,
) -> bool:
    """Say that the work so far is safe; True when it was kept. Never raises: work matters more.

    `progress` is 0 to 1, `path` says where the checkpoint lies. The server keeps one report a second; with
    `insist` (for the last one, on SIGTERM) a second try follows when that refuses. `timeout` is in seconds.
    """
    said = {
        "progress": progress,
        "step": step,
        "message": None if message is None else " ".join(message.split())[:LONGEST_MESSAGE],
        "path": path,
    }
    body = json.dumps({name: value for name, value in said.items() if value is not None}).encode()
    try:
        return _send(body, timeout) or (insist and _send_later(body, timeout))
    except (OSError, ValueError):
        return False


def previous() -> dict[str, Any] | None:
    """What this attempt follows: `attempt` (its number), `outcome`, `checkpoint`; None on a first attempt.

    `checkpoint` is the last report of any earlier attempt (with `attempt` and `at`), else None.
    """
    number = os.environ.get("HV_PREVIOUS_ATTEMPT")
    if not number:
        return None
    reported = os.environ.get("HV_PREVIOUS_CHECKPOINT")
    return {
        "attempt": int(number),
        "outcome": os.environ.get("HV_PREVIOUS_OUTCOME") or None,
        "checkpoint": json.loads(reported) if reported else None,
    }


def _send_later(body: bytes, timeout: float) -> bool:
    time.sleep(1.05)
    return _send(body, timeout)


def _send(body: bytes, timeout: float) -> bool:
    """True when it was kept, False when it came too soon. Raises OSError for any other refusal."""
    url = os.environ.get("HV_CHECKPOINT_URL", "")
    token = _renewed.get(url) or os.environ.get("HV_CHECKPOINT_TOKEN", "")
    if not url.startswith(("http://", "https://")) or not token:
        raise OSError("no server is named")
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = Request(url, data=body, headers=headers, method="POST")  # noqa: S310 (checked above)
    try:
        with _OPENER.open(request, timeout=timeout) as response:
            answer = json.load(response)
    except HTTPError as refusal:
        with refusal:
            if refusal.code == TOO_SOON:
                return False
            raise
    if answer.get("token"):
        _renewed[url] = answer["token"]
    return True
