"""A runtime for tests of the registry: the simulated one under another name, with its own files."""

from __future__ import annotations

from hypervisor.runtimes.kinds import RuntimeSetup
from hypervisor.runtimes.protocol import Runtime
from hypervisor.runtimes.simulated.runtime import SimulatedRuntime

NAME = "other"


class OtherRuntime(SimulatedRuntime):
    name = NAME


def open_runtime(setup: RuntimeSetup, _endpoint: str | None) -> Runtime:
    """See `RuntimeModule`."""
    return OtherRuntime(setup.data_dir / NAME, setup.install, setup.clock)
