"""The content of the `state` file. A workload can write to it: an unreadable line counts as absent."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hypervisor.runtimes.process.procfs import ProcessIdentity

VOID = "void"

_CLAIM = re.compile(r"([1-9][0-9]{0,8}) ([0-9]{1,18}) (\S+)", re.ASCII)
_LINE = re.compile(
    r"copier (?P<copier>[1-9][0-9]{0,8})|exit (?P<exit>[0-9]{1,3})"
    r"|finished (?P<finished>[0-9]{1,10}(?:\.[0-9]+)?)"
)
_GREATEST_CODE = 255
_LATEST = 2**33
"""The year 2242 in seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class InstanceState:
    """The content of the `state` file.

    `identity` is the supervisor that claimed the instance. None is a void claim: the instance was stopped
    before it began, or can never begin; or it is not known, where the file is `is_damaged`.
    """

    identity: ProcessIdentity | None
    copier: int | None = None
    """The pid of the supervisor's child that writes the log."""
    exit_code: int | None = None
    finished_at: float | None = None
    """The end in seconds since the epoch. Written when no process of the instance is left."""
    is_damaged: bool = False
    """The file cannot be read, or is not what the hypervisor wrote."""


DAMAGED = InstanceState(None, is_damaged=True)


def parse_state(text: str) -> InstanceState:
    """The state, from the first readable line of each kind."""
    first, *rest = text.split("\n")
    claim = _CLAIM.fullmatch(first)
    found: dict[str, str] = {}
    for match in filter(None, map(_LINE.fullmatch, rest if claim else [first, *rest])):
        if match["exit"] is None or int(match["exit"]) <= _GREATEST_CODE:
            found = {kind: value for kind, value in match.groupdict().items() if value is not None} | found
    return InstanceState(
        ProcessIdentity(int(claim[1]), int(claim[2]), claim[3]) if claim else None,
        int(found["copier"]) if "copier" in found else None,
        int(found["exit"]) if "exit" in found else None,
        sane_time(float(found["finished"])) if "finished" in found else None,
        is_damaged=not (claim or _is_void(first)),
    )


def _is_void(first: str) -> bool:
    """Whether no supervisor claimed the instance, or it died before it could write its claim."""
    return first.strip("\0 ") in ("", VOID) or first.startswith("finished ")


def sane_time(seconds: float) -> float | None:
    """The time, unless it is one that no end of a workload can have."""
    return seconds if 0 <= seconds < _LATEST else None
