"""Which runtimes are asked whether they answer."""

from __future__ import annotations

from pathlib import Path

from hypervisor.runtimes.protocol import Runtime
from hypervisor.runtimes.registry import RuntimeRegistry
from hypervisor.runtimes.sockets import why_nobody_answers


def _opened(_: str | None) -> Runtime:
    raise AssertionError("opened, though nobody can answer")


async def test_an_engine_whose_socket_is_missing_is_not_even_opened(tmp_path: Path) -> None:
    endpoint = f"unix://{tmp_path / 'none.sock'}"
    runtimes = RuntimeRegistry({"docker": _opened}, missing={"docker": lambda: why_nobody_answers(endpoint)})
    assert (await runtimes.resolve("auto")).name == "simulated"
    found = await runtimes.found()
    assert found["docker"].startswith(f"not available: no answer from the engine at {endpoint}")


def test_an_engine_that_may_answer_is_worth_asking(tmp_path: Path) -> None:
    (tmp_path / "here.sock").touch()
    assert why_nobody_answers(f"unix://{tmp_path / 'here.sock'}") is None
    assert why_nobody_answers("tcp://gpu-7:2376") is None
