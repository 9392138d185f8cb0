"""The finding of a check, and a runner that turns errors and timeouts into findings."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

TIMEOUT_SECONDS = 15.0

Status = Literal["ok", "warning", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a check; `advice` is the next step, empty when no action is needed."""

    check: str
    status: Status
    detail: str
    advice: str = ""


Check = Callable[[], Awaitable[Sequence[Finding]]]


async def run_check(name: str, check: Check) -> list[Finding]:
    """The findings of one check. An error or a timeout becomes a finding too."""
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            return list(await check())
    except TimeoutError:
        return [Finding(name, "problem", f"the check timed out after {TIMEOUT_SECONDS:.0f} s")]
    except Exception as error:
        detail = f"the check failed: {type(error).__name__}: {first_line(error)}"
        return [Finding(name, "problem", detail)]


def first_line(error: BaseException) -> str:
    """The first line of the message, else the name of the exception."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
