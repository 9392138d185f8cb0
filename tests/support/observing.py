"""What a runtime shows of one instance, whichever runtime it is."""

from __future__ import annotations

from hypervisor.runtimes.protocol import Observation, ObservedState, Runtime
from tests.support.wait import eventually


async def look(runtime: Runtime, name: str) -> Observation:
    """The instance as it is seen now."""
    return (await runtime.observe([name]))[name]


async def end_of(runtime: Runtime, name: str) -> Observation:
    """The instance once it has ended."""

    async def ended() -> Observation | None:
        seen = await look(runtime, name)
        return seen if seen.state is ObservedState.EXITED else None

    observation = await eventually(ended, what=f"the end of {name}")
    assert observation is not None
    return observation
