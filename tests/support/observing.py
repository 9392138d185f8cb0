"""Observations of one instance on any runtime."""

from __future__ import annotations

from hypervisor.runtimes.protocol import Observation, ObservedState, Runtime
from tests.support.wait import eventually


async def observation_of(runtime: Runtime, name: str) -> Observation:
    """The current observation of the instance."""
    return (await runtime.observe([name]))[name]


async def end_of(runtime: Runtime, name: str) -> Observation:
    """Wait for the end of the instance; the observation."""

    async def ended() -> Observation | None:
        observation = await observation_of(runtime, name)
        return observation if observation.state is ObservedState.EXITED else None

    observation = await eventually(ended, what=f"the end of {name}")
    assert observation is not None
    return observation
