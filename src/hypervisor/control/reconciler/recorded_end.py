"""The end of an instance as a row stores it between its observation and the removal of the instance."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from hypervisor.kernel.observation import Observation, ObservedState


def end_record(observation: Observation) -> dict[str, Any]:
    """The content of `attempts.end_observed` for an observed end."""
    return {
        "exit_code": observation.exit_code,
        "oom_killed": observation.oom_killed,
        "started_at": _text(observation.started_at),
        "finished_at": _text(observation.finished_at),
        "message": observation.message,
    }


def recorded_end(record: Mapping[str, Any] | None) -> Observation | None:
    """The observation from `attempts.end_observed`."""
    if record is None:
        return None
    return Observation(
        ObservedState.EXITED,
        exit_code=record["exit_code"],
        oom_killed=record["oom_killed"],
        started_at=_time(record["started_at"]),
        finished_at=_time(record["finished_at"]),
        message=record["message"],
    )


def _text(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
