"""How containers look: one list call for all of them, an inspect only for what the list does not tell.

What an inspect said about a running or an ended container does not change, so it is asked once for each.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from hypervisor.runtimes.docker.client import ContainerNotFound, DockerClient
from hypervisor.runtimes.docker.config import INSTALL_LABEL, is_container_name
from hypervisor.runtimes.docker.logs import last_lines
from hypervisor.runtimes.protocol import ABSENT, Observation, ObservedState, PortBinding

_STATES: Final = {
    "created": ObservedState.CREATED,
    "configured": ObservedState.CREATED,
    "initialized": ObservedState.CREATED,
    "exited": ObservedState.EXITED,
    "stopped": ObservedState.EXITED,
    "dead": ObservedState.EXITED,
}
_MIB: Final = 1024 * 1024
_INSPECTS_AT_ONCE: Final = 16
_NOT_RUNNABLE: Final = (126, 127)


def observed_state(word: str) -> ObservedState:
    """Docker's and Podman's words; what is paused, restarting or being removed still holds its resources."""
    return _STATES.get(word.lower(), ObservedState.RUNNING)


def belongs_to_install(details: Mapping[str, Any], install: str) -> bool:
    """Whether an inspected container belongs to this installation."""
    labels = details.get("Config", {}).get("Labels") or {}
    return bool(labels.get(INSTALL_LABEL) == install)


def observation(details: Mapping[str, Any]) -> Observation:
    """An inspected container as the product sees it."""
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
        message=_oom_words(details) if oom_killed else state.get("Error") or None,
        ports=() if ended else _ports(details),
    )


class Observer:
    """Looks at the containers of one installation."""

    def __init__(self, engine: DockerClient, install: str) -> None:
        self._engine = engine
        self._install = install
        self._known: dict[str, Observation] = {}

    async def inspect(self, name: str) -> dict[str, Any] | None:
        """The engine's details of one container, None when it has none of this name.

        Raises RuntimeUnavailable.
        """
        if not is_container_name(name):
            return None
        try:
            container = await self._engine.ask(lambda docker: docker.containers.get(name))
        except ContainerNotFound:
            return None
        return container._container

    async def one(self, name: str) -> Observation:
        """One container by name, ABSENT also where the name is somebody else's."""
        details = await self.inspect(name)
        if details is None or not belongs_to_install(details, self._install):
            return ABSENT
        return await self._explained(details)

    async def many(self, wanted: Collection[str] | None = None) -> dict[str, Observation]:
        """The named containers, or all of the installation. Those that are not there are left out."""
        summaries = {_name(summary): summary for summary in await self._list()}
        self._prune(summaries.values())
        chosen = [name for name in summaries if wanted is None or name in wanted]
        gate = asyncio.Semaphore(_INSPECTS_AT_ONCE)
        looks = await asyncio.gather(*(self._look(name, summaries[name], gate) for name in chosen))
        return {name: look for name, look in zip(chosen, looks, strict=True) if look is not ABSENT}

    async def names(self) -> list[str]:
        """The names alone, at the cost of one call."""
        return [_name(summary) for summary in await self._list()]

    async def _list(self) -> list[Mapping[str, Any]]:
        filters = json.dumps({"label": [f"{INSTALL_LABEL}={self._install}"]})
        containers = await self._engine.ask(lambda docker: docker.containers.list(all=True, filters=filters))
        return [container._container for container in containers]

    async def _look(self, name: str, summary: Mapping[str, Any], gate: asyncio.Semaphore) -> Observation:
        state = observed_state(summary["State"])
        if state is ObservedState.CREATED:
            return Observation(state)
        known = self._known.get(summary["Id"])
        if known is not None and known.state is state:
            return known
        async with gate:
            seen = await self.one(name)
        if seen.state in (ObservedState.RUNNING, ObservedState.EXITED):
            self._known[summary["Id"]] = seen
        return seen

    def _prune(self, summaries: Collection[Mapping[str, Any]]) -> None:
        there = {summary["Id"] for summary in summaries}
        for gone in self._known.keys() - there:
            del self._known[gone]

    async def _explained(self, details: Mapping[str, Any]) -> Observation:
        """With the init as PID 1 a program that cannot be run is reported by it, in the log."""
        seen = observation(details)
        if seen.exit_code not in _NOT_RUNNABLE or seen.message:
            return seen
        words = await self._init_words(details["Name"].lstrip("/"))
        return seen if words is None else _with_message(seen, words)

    async def _init_words(self, name: str) -> str | None:
        for line in await last_lines(self._engine, name, 3):
            if line.startswith("[FATAL tini"):
                return line.partition("] ")[2]
        return None


def _with_message(seen: Observation, words: str) -> Observation:
    return Observation(
        seen.state, seen.exit_code, seen.oom_killed, seen.started_at, seen.finished_at, words, seen.ports
    )


def _name(summary: Mapping[str, Any]) -> str:
    return str(summary["Names"][0]).lstrip("/")


def _oom_words(details: Mapping[str, Any]) -> str:
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
    """The engine's RFC 3339 time in UTC; its zero time (year 1) means "never"."""
    if not text or text.startswith("0001-"):
        return None
    return datetime.fromisoformat(text).astimezone(UTC)
