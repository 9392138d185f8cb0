"""Followed logs are whole, and a log goes on exactly after a position: on every runtime."""

from __future__ import annotations

import asyncio

import pytest

from hypervisor.runtimes.protocol import LogChunk, Runtime
from tests.contract.runtime_cases import RuntimeCase
from tests.support.logs import output_of
from tests.support.observing import end_of
from tests.support.wait import PROMPT, eventually

TICK = b"tick\n"
MAX_POSITION = 200


@pytest.fixture
def shell_case(runtime_case: RuntimeCase) -> RuntimeCase:
    if not runtime_case.runs_commands:
        pytest.skip("nothing runs here that could write more")
    return runtime_case


async def test_the_output_goes_on_after_each_position(runtime_case: RuntimeCase) -> None:
    spec = runtime_case.runs(*["tick"] * 300, "tock", *["tick"] * 300)
    await runtime_case.open().start(spec)
    await end_of(runtime_case.open(), spec.instance)
    whole = TICK * 300 + b"tock\n" + TICK * 300
    await check_positions(runtime_case, spec.instance, whole)
    if runtime_case.keeps_logs:
        before = await chunks_of(runtime_case.open(), spec.instance)
        await runtime_case.open().remove(spec.instance)
        await check_rest(runtime_case, spec.instance, before)
        await check_positions(runtime_case, spec.instance, whole)


async def test_both_streams_go_on_after_each_position(shell_case: RuntimeCase) -> None:
    """Also within a very long line, and after an unfinished one."""
    line = "head -c 2000000 /dev/zero | tr '\\0' x; echo error >&2; echo; printf half >&2; "
    spec = shell_case.writes(f"for i in 1 2 3 4 5 6; do echo tick; echo tick >&2; done; {line * 2}printf end")
    await shell_case.open().start(spec)
    await end_of(shell_case.open(), spec.instance)
    whole = await output_of(shell_case.open(), spec.instance)
    assert whole.count(b"x") == 4_000_000
    await check_positions(shell_case, spec.instance, whole)


async def test_identical_lines_go_on_over_a_rotation(
    shell_case: RuntimeCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing but the position tells these lines apart, also when the stream began with the last lines."""
    shell_case.bound_logs(monkeypatch, 14_000)
    spec = shell_case.writes("yes tick | head -30000; echo mark", then="yes tick | head -20000")
    await shell_case.open().start(spec)
    positions = []
    for tail in (None, 5, 0):
        wanted = {None: 25_000, 5: 25, 0: 0}[tail]
        positions.append(await position_after(shell_case, spec.instance, tail, wanted))
    await shell_case.let_go(spec.instance)
    await end_of(shell_case.open(), spec.instance)
    for follow in (False, True):
        first, *others = [
            await output_after(shell_case.open(), spec.instance, position, follow=follow)
            for position in positions
        ]
        assert others == [TICK * 20_000] * 2
        assert first.endswith(TICK * 20_000)
    await shell_case.open().remove(spec.instance)
    for position in positions[1:]:
        assert await output_after(shell_case.open(), spec.instance, position) == TICK * 20_000


async def test_a_followed_log_goes_on_over_rotations(
    shell_case: RuntimeCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell_case.bound_logs(monkeypatch, 9_000)
    await check_followed(shell_case, 10_000, 16_000)


async def test_a_follower_that_is_slower_than_the_rotation_misses_nothing_that_is_stored(
    shell_case: RuntimeCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine that is asked to follow leaves out a whole file then."""
    shell_case.bound_logs(monkeypatch, 40_000)
    await check_followed(shell_case, 100, 90_000)


@pytest.mark.parametrize("begins_late", [False, True])
async def test_a_follower_that_is_behind_goes_on_in_the_log_of_a_removed_instance(
    shell_case: RuntimeCase, monkeypatch: pytest.MonkeyPatch, begins_late: bool
) -> None:
    shell_case.bound_logs(monkeypatch, 9_000)
    runtime = shell_case.open()
    spec = shell_case.writes("seq 1 10000", then="seq 10001 16000")
    await runtime.start(spec)
    followed, output = runtime.logs(spec.instance, follow=True), bytearray()
    while begins_late and len(output) < 10_000:
        output += (await asyncio.wait_for(anext(followed), PROMPT)).data
    if not begins_late:
        await asyncio.wait_for(anext(followed), PROMPT)
    await shell_case.let_go(spec.instance)
    await end_of(runtime, spec.instance)
    assert await runtime.remove(spec.instance)
    async with asyncio.timeout(PROMPT):
        async for chunk in followed:
            output += chunk.data
    check_output(output, numbers(1, 16000))
    assert await output_of(runtime, spec.instance) == output


async def test_a_text_that_is_no_position_is_the_beginning(runtime_case: RuntimeCase) -> None:
    runtime = runtime_case.open()
    spec = runtime_case.runs("one", "two")
    await runtime.start(spec)
    await end_of(runtime, spec.instance)
    for text in ("x", "-1", "p1", "r0.0,1~1~x", "r0.0,1~1~2026-99-99T00:00:00Z", "b7", "9" * 40):
        assert await output_after(runtime, spec.instance, text) == b"one\ntwo\n"


async def check_followed(case: RuntimeCase, first: int, last: int) -> None:
    """Follow an instance that writes 1 to `first`, and the rest once these were read."""
    runtime = case.open()
    spec = case.writes(f"seq 1 {first}", then=f"seq {first + 1} {last}")
    await runtime.start(spec)
    output = bytearray()
    async with asyncio.timeout(PROMPT):
        async for chunk in runtime.logs(spec.instance, follow=True):
            output += chunk.data
            if output.endswith(b"\n%d\n" % first):
                await case.let_go(spec.instance)
    check_output(output, numbers(1, last))


def check_output(output: bytes | bytearray, expected: bytes) -> None:
    """Compare without a listing of all differences, which takes minutes for outputs of this size."""
    if output != expected:
        place = next(
            (at for at, pair in enumerate(zip(output, expected, strict=False)) if len(set(pair)) > 1), -1
        )
        pytest.fail(f"{len(output)} bytes, not {len(expected)}; at {place}: {output[place : place + 40]!r}")


def numbers(first: int, last: int) -> bytes:
    return b"".join(b"%d\n" % number for number in range(first, last + 1))


async def chunks_of(runtime: Runtime, instance: str) -> list[LogChunk]:
    return [chunk async for chunk in runtime.logs(instance)]


async def output_after(runtime: Runtime, instance: str, after: str, *, follow: bool = False) -> bytes:
    return b"".join([chunk.data async for chunk in runtime.logs(instance, after=after, follow=follow)])


async def position_after(case: RuntimeCase, instance: str, tail: int | None, size: int) -> str:
    """The position after the first chunks with `size` bytes, once the first lines are stored."""
    runtime, position = case.open(), ""
    await eventually(lambda: ends_with_mark(runtime, instance))
    async for chunk in runtime.logs(instance, tail=tail, follow=True):
        size -= len(chunk.data)
        position = chunk.position
        if size <= 0:
            break
    return position


async def ends_with_mark(runtime: Runtime, instance: str) -> bool:
    return (await output_of(runtime, instance)).endswith(b"mark\n")


async def check_positions(case: RuntimeCase, instance: str, whole: bytes) -> None:
    """Cut the stream after each chunk, and go on with another runtime object."""
    chunks = await chunks_of(case.open(), instance)
    assert b"".join(chunk.data for chunk in chunks) == whole
    assert chunks[0].data == b""
    await check_rest(case, instance, chunks)


async def check_rest(case: RuntimeCase, instance: str, chunks: list[LogChunk]) -> None:
    whole, read = b"".join(chunk.data for chunk in chunks), 0
    for number, chunk in enumerate(chunks):
        read += len(chunk.data)
        assert len(chunk.position) <= MAX_POSITION
        if number % max(1, len(chunks) // 8) == 0 or number == len(chunks) - 1:
            assert await output_after(case.open(), instance, chunk.position) == whole[read:]
