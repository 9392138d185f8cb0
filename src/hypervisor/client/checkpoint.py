"""Checkpoint reports from inside a workload, and the outcome of the previous attempt. Standard library only.

    from hypervisor.client import checkpoint

    before = checkpoint.previous()                 # None on a first attempt
    ...
    checkpoint.report(step=100, progress=0.4, path="s3://models/run-7/step-100")

The file can also be copied beside a workload, because it imports nothing else of this package. Without the
environment variables of a workload (when the program runs by hand), `report` does nothing.
"""

from __future__ import annotations

import json
import os
import time
from email.message import Message
from ipaddress import ip_address
from typing import IO, Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

MAX_MESSAGE_LENGTH = 500
TOO_MANY_REQUESTS = 429
RETRY_SECONDS = 1.05
_renewed_tokens: dict[str, str] = {}
"""Newer tokens from the server, by report URL. They replace the token of the environment."""


class _NoRedirects(HTTPRedirectHandler):
    """Follows no redirect, so the token goes to no other server."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> None:
        return None


_OPENER = build_opener(_NoRedirects)
_DIRECT = build_opener(ProxyHandler({}), _NoRedirects)


def report(
    *,
    progress: float | None = None,
    step: int | None = None,
    message: str | None = None,
    path: str | None = None,
    insist: bool = False,
    timeout: float = 5.0,
) -> bool:
    """Report that the work so far is saved. Returns True when the server stored the report. Never raises.

    `progress` is 0 to 1, `path` is the location of the checkpoint, `timeout` is in seconds. The server stores
    one report per second and refuses others. With `insist` (for the last report, on SIGTERM) a refused report
    is sent a second time.
    """
    fields = {
        "progress": progress,
        "step": step,
        "message": None if message is None else " ".join(message.split())[:MAX_MESSAGE_LENGTH],
        "path": path,
    }
    body = json.dumps({name: value for name, value in fields.items() if value is not None}).encode()
    try:
        return _send(body, timeout) or (insist and _send_later(body, timeout))
    except (OSError, ValueError):
        return False


def previous() -> dict[str, Any] | None:
    """The previous attempt: `attempt` (its number), `outcome` and `checkpoint`; None on a first attempt.

    `checkpoint` is the last report of any earlier attempt, with `attempt` and `at`; None without a report.
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


def is_loopback(host: str) -> bool:
    """Whether the host, with or without a port, is this machine: 127.0.0.0/8, ::1 or localhost.

    A proxy never reaches it.
    """
    is_bare = host.count(":") > 1 and not host.startswith("[")
    name = host if is_bare else (urlsplit(f"//{host}").hostname or "").rstrip(".")
    if name in ("localhost", "localhost.localdomain") or name.endswith(".localhost"):
        return True
    try:
        address = ip_address(name)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return address.is_loopback or (mapped is not None and mapped.is_loopback)


def _send_later(body: bytes, timeout: float) -> bool:
    time.sleep(RETRY_SECONDS)
    return _send(body, timeout)


def _send(body: bytes, timeout: float) -> bool:
    """True when the report was stored, False when it came too soon. Raises OSError for any other refusal."""
    url = os.environ.get("HV_CHECKPOINT_URL", "")
    token = _renewed_tokens.get(url) or os.environ.get("HV_CHECKPOINT_TOKEN", "")
    if not url.startswith(("http://", "https://")) or not token:
        raise OSError("HV_CHECKPOINT_URL or HV_CHECKPOINT_TOKEN is not set")
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = Request(url, data=body, headers=headers, method="POST")  # noqa: S310 (checked above)
    try:
        opener = _DIRECT if is_loopback(request.host.rpartition("@")[2]) else _OPENER
        with opener.open(request, timeout=timeout) as response:
            result = json.load(response)
    except HTTPError as refusal:
        with refusal:
            if refusal.code == TOO_MANY_REQUESTS:
                return False
            raise
    if result.get("token"):
        _renewed_tokens[url] = result["token"]
    return True
