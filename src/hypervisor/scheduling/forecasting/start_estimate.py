"""When a waiting deployment will start: `plan()` simulated through the expected ends, twice.

The earliest estimate assumes the median length of past runs. The latest estimate assumes
`max_runtime_seconds`, as that is enforced, and without it the 90th percentile of past runs. Services end only
at their `max_runtime_seconds`. For work that has run for a while only longer past runs count. What cannot be
known is reported as unknown.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field

from hypervisor.scheduling.forecasting.forecast import ForecastOutcome, WhatIfResult
from hypervisor.scheduling.forecasting.rollout import PredictedStart, simulate_forward
from hypervisor.scheduling.policy import Policy
from hypervisor.scheduling.snapshots.snapshot import Snapshot
from hypervisor.scheduling.snapshots.wording import listed, span

_MEDIAN, _LONG = 0.5, 0.9


@dataclass(frozen=True, slots=True)
class ForecastInputs:
    """What a forecast needs beside the snapshot.

    `runs` are the lengths of finished runs in seconds, ascending. `services` run until they are stopped.
    `stops_within` says for live deployments how many seconds a stop takes at most from now.
    """

    runs: tuple[float, ...] = ()
    services: frozenset[int] = frozenset()
    stops_within: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StartRange:
    """Seconds since the epoch, None if unknown; `how` explains the estimate, or why there is none.

    `after` are the deployments whose ends lead to the start, by the latest known estimate.
    """

    earliest: float | None
    latest: float | None
    how: str
    after: tuple[int, ...] = ()


def estimate_start(
    snapshot: Snapshot, policy: Policy, deployment_id: int, next_pass: WhatIfResult, inputs: ForecastInputs
) -> StartRange:
    """The start of a pending deployment of the snapshot; `next_pass` is its result in the next pass."""
    now = snapshot.now
    if next_pass.outcome is ForecastOutcome.FITS_NOW:
        return StartRange(now, now, "it fits the free capacity, so the next pass starts it")
    if next_pass.outcome is ForecastOutcome.NEVER:
        return StartRange(None, None, "waiting does not help: the cluster can never run it")
    if next_pass.victims:
        ids = tuple(sorted({one.deployment_id for one in next_pass.victims}))
        longest = max(inputs.stops_within.get(id_, 0.0) for id_ in ids)
        return StartRange(now, now + longest, _stopping_sentence(longest), ids)
    return _simulated(snapshot, policy, deployment_id, next_pass, inputs)


def _simulated(
    snapshot: Snapshot, policy: Policy, deployment_id: int, next_pass: WhatIfResult, inputs: ForecastInputs
) -> StartRange:
    lengths = _Lengths(inputs)
    early = simulate_forward(snapshot, policy, deployment_id, next_pass.plan, lengths.likely, lambda _: 0.0)
    stops = inputs.stops_within
    late = simulate_forward(
        snapshot, policy, deployment_id, next_pass.plan, lengths.longest, lambda id_: stops.get(id_, 0.0)
    )
    if early is None:
        return StartRange(None, None, _unknown_sentence(inputs))
    if math.isinf(early.at):
        return StartRange(None, None, "unknown: too many ends come before it to simulate all of them")
    late_start = late if late is not None and not math.isinf(late.at) else None
    earliest = early.at if late_start is None else min(early.at, late_start.at)
    latest = None if late_start is None else max(early.at, late_start.at)
    return StartRange(earliest, latest, _sentence(inputs, lengths, late), (late_start or early).after)


class _Lengths:
    """How much longer a run continues, in seconds; records the basis of the estimates."""

    def __init__(self, inputs: ForecastInputs) -> None:
        self._inputs = inputs
        self.by_history = False
        self.by_limit = False

    def likely(self, deployment_id: int, elapsed: float, limit: float) -> float:
        """By the median of past runs; without past runs it may end at any moment."""
        if deployment_id in self._inputs.services:
            return self._limited(limit)
        past = self._remaining(elapsed, _MEDIAN)
        return min(limit, 0.0 if past is None else past)

    def longest(self, deployment_id: int, elapsed: float, limit: float) -> float:
        """By its limit plus the time to stop, else by the 90th percentile, else without end."""
        if deployment_id in self._inputs.services or not math.isinf(limit):
            return self._limited(limit) + self._inputs.stops_within.get(deployment_id, 0.0)
        past = self._remaining(elapsed, _LONG)
        return math.inf if past is None else past

    def _limited(self, limit: float) -> float:
        self.by_limit |= not math.isinf(limit)
        return limit

    def _remaining(self, elapsed: float, quantile: float) -> float | None:
        runs = self._inputs.runs
        longer = runs[bisect_right(runs, elapsed) :]
        if not longer:
            return None
        self.by_history = True
        return longer[min(len(longer) - 1, int(quantile * len(longer)))] - elapsed


def _stopping_sentence(longest: float) -> str:
    if not longest:
        return "it starts as soon as its victims have stopped"
    return f"it starts when its victims have stopped, within their grace period of {span(longest)}"


def _sentence(inputs: ForecastInputs, lengths: _Lengths, late: PredictedStart | None) -> str:
    runs = inputs.runs
    parts = []
    if lengths.by_history and runs:
        middle, long = runs[int(_MEDIAN * len(runs))], runs[min(len(runs) - 1, int(_LONG * len(runs)))]
        many = f"{len(runs)} finished run" + ("s" if len(runs) > 1 else "")
        parts.append(f"{many} on this cluster (median {span(middle)}, 90th percentile {span(long)})")
    if lengths.by_limit:
        parts.append("the max_runtime_seconds of running deployments and of those ahead in the queue")
    sentence = f"simulated from {listed(parts)}" if parts else "the stopping deployments end soon"
    if not lengths.by_history and lengths.by_limit:
        sentence += "; deployments may also end earlier, at any moment"
    if late is None:
        sentence += "; no latest time, because a deployment ahead of it has no known end"
    elif math.isinf(late.at):
        sentence += "; no latest time, because too many ends may come before it to simulate all of them"
    return sentence


def _unknown_sentence(inputs: ForecastInputs) -> str:
    if inputs.services:
        return "unknown: it waits for services without max_runtime_seconds, which run until they are stopped"
    return "unknown: no expected end makes room for it"
