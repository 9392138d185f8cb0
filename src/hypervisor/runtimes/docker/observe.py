"""Observes containers with one list call, and inspects only containers in a new state.

The details of a running or an ended container change only with an event, so each is inspected once for each
state and health, and again after an event.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from hypervisor.kernel.exit_code import NOT_EXECUTABLE, NOT_FOUND
from hypervisor.kernel.observation import Health
from hypervisor.runtimes.docker.client import DockerClient
from hypervisor.runtimes.docker.containers import Containers, belongs_to_install, restarts_by_engine
from hypervisor.runtimes.docker.logs import last_lines
from hypervisor.runtimes.protocol import (
    ABSENT,
    Observation,
    ObservedState,
    PortBinding,
)

_STATES: Final = {
    "created": ObservedState.CREATED,
    "configured": ObservedState.CREATED,
    "initialized": ObservedState.CREATED,
    "exited": ObservedState.EXITED,
    "stopped": ObservedState.EXITED,
    "dead": ObservedState.EXITED,
}
_MIB: Final = 1024 * 1024
_MAX_INSPECTS: Final = 16
_NOT_RUNNABLE: Final = (NOT_EXECUTABLE, NOT_FOUND)
_BY_NAME: Final = {health.value: health for health in Health}
_HEALTH: Final = {f"({text})": health for health in Health for text in (health.value, f"health: {health}")}
"""How the summary of a container shows its health, such as "Up 2 minutes (health: starting)"."""


def observed_state(status: str) -> ObservedState:
    """The state for a status of Docker or Podman.

    A container that is paused, restarting or being removed counts as running: it still holds its resources.
    """
    return _STATES.get(status.lower(), ObservedState.RUNNING)


def observation(details: Mapping[str, Any]) -> Observation:
    """The observation of an inspected container (the engine's JSON)."""
    state: Mapping[str, Any] = details["State"]
    observed = observed_state(state["Status"])
    ended = observed is ObservedState.EXITED
    code = int(state["ExitCode"]) if ended else None
    oom_killed = bool(ended and code and state.get("OOMKilled"))
    return Observation(
        state=observed,
        exit_code=code,
        oom_killed=oom_killed,
        started_at=_time(state.get("StartedAt")),
        finished_at=_time(state.get("FinishedAt")) if ended else None,
        message=_oom_message(details) if oom_killed else state.get("Error") or None,
        ports=() if ended else _ports(details),
        health=_health(state) if observed is ObservedState.RUNNING else None,
    )


class Observer:
    """Observes the containers of one installation."""

    def __init__(self, client: DockerClient, containers: Containers, install: str) -> None:
        self._client = client
        self._containers = containers
        self._install = install
        self._cache: dict[str, tuple[str, Observation]] = {}
        """The instance and its last observation, by the id of the container."""

    async def inspect(self, name: str) -> dict[str, Any] | None:
        """See `Containers.inspect`."""
        return await self._containers.inspect(name)

    async def observe(self, name: str) -> Observation:
        """One container by name. A container of another installation counts as ABSENT."""
        details = await self._containers.inspect(name)
        if details is None or not belongs_to_install(details, self._install):
            return ABSENT
        if restarts_by_engine(details):
            await self._containers.disable_restarts(details["Id"])
        return await self._with_init_message(details)

    async def observe_many(self, names: Collection[str] | None = None) -> dict[str, Observation]:
        """Observations by name, of these containers or of all. Absent containers are left out."""
        summaries = await self._containers.summaries()
        self._prune(summaries.values())
        chosen = [name for name in summaries if names is None or name in names]
        limit = asyncio.Semaphore(_MAX_INSPECTS)
        observed = await asyncio.gather(
            *(self._observe_listed(name, summaries[name], limit) for name in chosen)
        )
        return {name: one for name, one in zip(chosen, observed, strict=True) if one is not ABSENT}

    def forget(self, name: str | None = None) -> None:
        """Inspect this container again at its next observation; None: every container."""
        for id_ in [id_ for id_, (cached, _) in self._cache.items() if name in (None, cached)]:
            del self._cache[id_]

    async def _observe_listed(
        self, name: str, summary: Mapping[str, Any], limit: asyncio.Semaphore
    ) -> Observation:
        state = observed_state(summary["State"])
        if state is ObservedState.CREATED:
            return Observation(state)
        _, cached = self._cache.get(summary["Id"], (name, None))
        if cached is not None and cached.state is state and cached.health is _listed_health(summary, state):
            return cached
        async with limit:
            observed = await self.observe(name)
        if observed.state in (ObservedState.RUNNING, ObservedState.EXITED):
            self._cache[summary["Id"]] = name, observed
        return observed

    def _prune(self, summaries: Collection[Mapping[str, Any]]) -> None:
        ids = {summary["Id"] for summary in summaries}
        for removed_id in self._cache.keys() - ids:
            del self._cache[removed_id]

    async def _with_init_message(self, details: Mapping[str, Any]) -> Observation:
        """Add the message that the init (PID 1) logs for a program that it cannot run."""
        observed = observation(details)
        if observed.exit_code not in _NOT_RUNNABLE or observed.message:
            return observed
        message = await self._init_message(details["Name"].lstrip("/"))
        return observed if message is None else replace(observed, message=message)

    async def _init_message(self, name: str) -> str | None:
        for line in await last_lines(self._client, name, 3):
            if line.startswith("[FATAL tini"):
                return line.partition("] ")[2]
        return None


def _listed_health(summary: Mapping[str, Any], state: ObservedState) -> Health | None:
    if state is not ObservedState.RUNNING:
        return None
    text = str(summary.get("Status", ""))
    return next((health for suffix, health in _HEALTH.items() if text.endswith(suffix)), None)


def _health(state: Mapping[str, Any]) -> Health | None:
    """The health in an inspected state. None for an image without a health check ("none" in some engines)."""
    return _BY_NAME.get(str((state.get("Health") or {}).get("Status")))


def _oom_message(details: Mapping[str, Any]) -> str:
    limit = int(details.get("HostConfig", {}).get("Memory") or 0)
    return f"killed: out of memory (limit {limit // _MIB} MiB)" if limit else "killed: out of memory"


def _ports(details: Mapping[str, Any]) -> tuple[PortBinding, ...]:
    published: Mapping[str, Any] = details.get("NetworkSettings", {}).get("Ports") or {}
    bindings = [
        PortBinding(int(key.partition("/")[0]), binding["HostIp"] or "127.0.0.1", int(binding["HostPort"]))
        for key, bound in published.items()
        for binding in (bound or [])[:1]
    ]
    return tuple(sorted(bindings, key=lambda binding: binding.port))


def _time(text: str | None) -> datetime | None:
    """Parse the engine's RFC 3339 time as UTC. Its zero time (year 1) means "never"."""
    if not text or text.startswith("0001-"):
        return None
    return datetime.fromisoformat(text).astimezone(UTC)
