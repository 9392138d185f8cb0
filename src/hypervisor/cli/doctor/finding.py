"""What a check found, and how checks are run so that none of them can spoil the others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

WITHIN_SECONDS = 15.0

Status = Literal["ok", "warning", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """`advice` says what to do; it is empty where nothing has to be done."""

    check: str
    status: Status
    detail: str
    advice: str = ""


Check = Callable[[], Awaitable[Sequence[Finding]]]


async def run_check(name: str, check: Check) -> list[Finding]:
    """The findings of one check; whatever goes wrong in it is a finding too."""
    try:
        async with asyncio.timeout(WITHIN_SECONDS):
            return list(await check())
    except TimeoutError:
        return [Finding(name, "problem", f"no answer within {WITHIN_SECONDS:.0f} s")]
    except Exception as error:
        told = first_line(error)
        return [Finding(name, "problem", f"could not be looked at: {type(error).__name__}: {told}")]


def first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
