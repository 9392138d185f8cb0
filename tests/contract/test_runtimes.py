"""The contract of every runtime (`hypervisor/runtimes/protocol.py`), run on each of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from hypervisor.kernel.command import in_shell
from hypervisor.kernel.exec_limits import MAX_STRING_BYTES, MAX_TOTAL_BYTES, check_total
from hypervisor.runtimes.kinds import RUNTIMES
from hypervisor.runtimes.protocol import ABSENT, LaunchFailed, LaunchSpec, ObservedState, Runtime
from tests.contract.runtime_cases import RuntimeCase, ShellCase
from tests.support.logs import line_by_line, lines_of, output_of
from tests.support.observing import end_of, observation_of
from tests.support.wait import PROMPT, eventually


@pytest.fixture
def runtime(runtime_case: RuntimeCase) -> Runtime:
    return runtime_case.open()


async def test_it_has_a_name_and_answers_a_probe(runtime: Runtime, runtime_case: RuntimeCase) -> None:
    info = await runtime.probe()
    assert runtime.name == runtime_case.name == info.name
    assert info.description


@pytest.mark.parametrize("code", [0, 3])
async def test_an_instance_runs_and_leaves_its_exit_code(
    runtime: Runtime, runtime_case: RuntimeCase, code: int
) -> None:
    before = datetime.now(UTC) - timedelta(seconds=2)
    spec = runtime_case.runs(code=code, held=True)
    started = await runtime.start(spec)
    assert started.state is ObservedState.RUNNING
    assert (await observation_of(runtime, spec.instance)).exit_code is None
    await runtime_case.let_go(spec.instance)
    ended = await end_of(runtime, spec.instance)
    assert ended.exit_code == code
    assert ended.started_at is not None
    assert ended.finished_at is not None
    assert before < ended.started_at <= datetime.now(UTC) + timedelta(seconds=2)
    assert ended.started_at <= ended.finished_at
    assert ended.started_at.tzinfo is not None
    assert not ended.oom_killed


async def test_starting_twice_is_one_instance(runtime: Runtime, runtime_case: RuntimeCase) -> None:
    spec = runtime_case.runs("once", held=True)
    first = await runtime.start(spec)
    second = await runtime.start(spec)
    assert second.state is ObservedState.RUNNING
    assert second.started_at == first.started_at
    await runtime_case.let_go(spec.instance)
    await end_of(runtime, spec.instance)
    third = await runtime.start(spec)
    assert third.state is ObservedState.EXITED
    assert await lines(runtime, spec.instance) == ["once"]


async def test_concurrent_starts_are_one_instance(runtime_case: RuntimeCase) -> None:
    spec = runtime_case.runs("once", held=True)
    runtimes = [runtime_case.open(), runtime_case.open()]
    await asyncio.gather(*(runtime.start(spec) for runtime in runtimes for _ in range(3)))
    await runtime_case.let_go(spec.instance)
    for runtime in runtimes:
        assert (await end_of(runtime, spec.instance)).exit_code == 0
        assert list(await runtime.list_instances()) == [spec.instance]
    assert await lines(runtimes[0], spec.instance) == ["once"]


async def test_an_unknown_instance_is_absent_and_can_be_stopped_and_removed(
    runtime: Runtime, runtime_case: RuntimeCase
) -> None:
    name = runtime_case.instance()
    await runtime.stop(name, 5)
    assert await runtime.remove(name)
    await runtime.purge_logs(name)
    assert await runtime.observe([name]) == {name: ABSENT}
    assert await lines(runtime, name) == []
    assert await lines(runtime, name, follow=True) == []
    assert name not in await runtime.list_instances()


async def test_stop_ends_an_instance_that_handles_term_at_once(
    runtime: Runtime, runtime_case: RuntimeCase
) -> None:
    spec = runtime_case.sleeps()
    await start_and_be_ready(runtime, spec)
    await runtime.stop(spec.instance, 3600)
    assert (await end_of(runtime, spec.instance)).exit_code == 143


async def test_stop_right_after_start_is_not_lost(runtime: Runtime, runtime_case: RuntimeCase) -> None:
    specs = [runtime_case.sleeps() for _ in range(6)]

    async def start_and_stop(spec: LaunchSpec) -> None:
        await runtime.start(spec)
        await runtime.stop(spec.instance, 3600)

    await asyncio.gather(*map(start_and_stop, specs))
    for spec in specs:
        assert (await end_of(runtime, spec.instance)).exit_code is not None


async def test_an_instance_that_ignores_term_is_killed_after_the_grace_period(
    runtime: Runtime, runtime_case: RuntimeCase
) -> None:
    spec = runtime_case.ignores_term()
    await start_and_be_ready(runtime, spec)
    stopped_at = time.monotonic()
    await runtime.stop(spec.instance, 1)
    assert (await end_of(runtime, spec.instance)).exit_code == 137
    assert time.monotonic() - stopped_at >= 0.9


async def test_a_second_stop_never_restarts_the_grace_period(
    runtime: Runtime, runtime_case: RuntimeCase
) -> None:
    spec = runtime_case.ignores_term()
    await start_and_be_ready(runtime, spec)
    await runtime.stop(spec.instance, 0.5)
    for _ in range(4):
        await runtime.stop(spec.instance, 3600)
    assert (await end_of(runtime, spec.instance)).exit_code == 137


async def test_instances_outlive_the_server_and_are_adopted(runtime_case: RuntimeCase) -> None:
    running, ended = runtime_case.sleeps(), runtime_case.runs(code=3)
    first = runtime_case.open()
    started = await first.start(running)
    await first.start(ended)
    await end_of(first, ended.instance)
    await first.close()

    second = runtime_case.open()
    observations = await second.observe([running.instance, ended.instance])
    assert observations[running.instance].state is ObservedState.RUNNING
    assert observations[running.instance].started_at == started.started_at
    assert (observations[ended.instance].state, observations[ended.instance].exit_code) == (
        ObservedState.EXITED,
        3,
    )
    assert set(await second.list_instances()) == {running.instance, ended.instance}
    assert (await second.start(running)).state is ObservedState.RUNNING

    await second.stop(running.instance, 3600)
    assert (await end_of(second, running.instance)).exit_code is not None


async def test_an_end_without_a_server_keeps_its_exit_code(runtime_case: RuntimeCase) -> None:
    spec = runtime_case.runs(code=7, held=True)
    first = runtime_case.open()
    await first.start(spec)
    await first.close()
    await runtime_case.let_go(spec.instance)
    assert (await end_of(runtime_case.open(), spec.instance)).exit_code == 7


async def test_the_next_server_carries_out_an_overdue_kill(runtime_case: RuntimeCase) -> None:
    spec = runtime_case.ignores_term()
    first = runtime_case.open()
    await start_and_be_ready(first, spec)
    await first.stop(spec.instance, 0.5)
    await first.close()
    second = runtime_case.open()
    await second.stop(spec.instance, 3600)
    assert (await end_of(second, spec.instance)).exit_code == 137


async def test_logs_keep_their_order_and_can_be_cut_to_the_tail(
    runtime: Runtime, runtime_case: RuntimeCase
) -> None:
    written = [f"line {number} é" for number in range(50)]
    spec = runtime_case.runs(*written)
    await runtime.start(spec)
    await end_of(runtime, spec.instance)
    assert await lines(runtime, spec.instance) == written
    assert await lines(runtime, spec.instance, tail=3) == written[-3:]
    assert await lines(runtime, spec.instance, tail=0) == []
    assert await lines(runtime, spec.instance, tail=999) == written
    assert await lines(runtime, spec.instance, tail=2, follow=True) == written[-2:]


async def test_a_line_ends_at_a_line_feed_only(runtime: Runtime, runtime_case: RuntimeCase) -> None:
    written = ["ep 1\rep 2", "page\fbreak", "win\r", "", "a\v\x1c\x1d\x1e\x85\u2028\u2029b", " 語🙂"]
    spec = runtime_case.runs(*written)
    await runtime.start(spec)
    await end_of(runtime, spec.instance)
    for follow in (False, True):
        assert await lines(runtime, spec.instance, follow=follow) == written
        assert await lines(runtime, spec.instance, tail=4, follow=follow) == written[-4:]


async def test_output_is_kept_byte_for_byte(runtime: Runtime, runtime_case: RuntimeCase) -> None:
    if not runtime_case.runs_commands:
        pytest.skip("nothing runs here that could write bytes")
    spec = runtime_case.writes(
        "printf 'bad \\377 \\000 byte\\r\\n\\303'; sleep 0.1; printf '\\251 no newline'"
    )
    await runtime.start(spec)
    await end_of(runtime, spec.instance)
    written = b"bad \xff \x00 byte\r\n\xc3\xa9 no newline"
    assert await output_of(runtime, spec.instance) == written
    assert await output_of(runtime, spec.instance, follow=True) == written
    assert await output_of(runtime, spec.instance, tail=1) == written.partition(b"\n")[2]


async def test_a_line_may_have_any_length(runtime: Runtime, runtime_case: RuntimeCase) -> None:
    length = 5 * 1024 * 1024 + 1
    spec = runtime_case.writes_long_line(length)
    await runtime.start(spec)
    await end_of(runtime, spec.instance)
    await check_long_line(runtime, spec.instance, length)
    await runtime.remove(spec.instance)
    if runtime_case.keeps_logs:
        await check_long_line(runtime, spec.instance, length)


async def check_long_line(runtime: Runtime, instance: str, length: int) -> None:
    """The log is "first", a line of this length, and "last"."""
    for follow in (False, True):
        first, long, last = await lines(runtime, instance, follow=follow)
        assert (first, len(long), set(long), last) == ("first", length, {"x"}, "last")
        assert await lines(runtime, instance, tail=1, follow=follow) == ["last"]
        assert [len(line) for line in await lines(runtime, instance, tail=2, follow=follow)] == [length, 4]


async def test_followed_logs_arrive_while_it_runs_and_end_with_it(
    runtime: Runtime, runtime_case: RuntimeCase
) -> None:
    spec = runtime_case.runs("first", "second", held=True)
    await runtime.start(spec)
    followed = line_by_line(runtime.logs(spec.instance, follow=True))
    assert await asyncio.wait_for(anext(followed), PROMPT) == "first"
    assert (await observation_of(runtime, spec.instance)).state is ObservedState.RUNNING
    await runtime_case.let_go(spec.instance)
    async with asyncio.timeout(PROMPT):
        assert [line async for line in followed] == ["second"]
    assert (await end_of(runtime, spec.instance)).exit_code == 0


async def test_a_hint_arrives_when_an_instance_ends(runtime: Runtime, runtime_case: RuntimeCase) -> None:
    changes = runtime.changes()
    spec = runtime_case.runs(held=True)
    await runtime.start(spec)
    await runtime_case.let_go(spec.instance)
    async with asyncio.timeout(PROMPT):
        async for name in changes:
            if (await observation_of(runtime, name)).state is ObservedState.EXITED:
                break
    assert name == spec.instance


async def test_a_hint_arrives_for_an_adopted_instance(runtime_case: RuntimeCase) -> None:
    spec = runtime_case.runs(held=True)
    first = runtime_case.open()
    await first.start(spec)
    await first.close()
    second = runtime_case.open()
    changes = second.changes()
    await runtime_case.let_go(spec.instance)
    async with asyncio.timeout(PROMPT):
        async for name in changes:
            if (await observation_of(second, name)).state is ObservedState.EXITED:
                break
    assert name == spec.instance


async def test_close_ends_the_hints(runtime: Runtime) -> None:
    async def listen() -> list[str]:
        return [name async for name in runtime.changes()]

    listener = asyncio.create_task(listen())
    await asyncio.sleep(0.05)
    await runtime.close()
    assert await asyncio.wait_for(listener, PROMPT) == []


async def test_remove_deletes_an_ended_instance_and_keeps_its_logs_until_the_purge(
    runtime: Runtime, runtime_case: RuntimeCase
) -> None:
    spec = runtime_case.runs("kept")
    await runtime.start(spec)
    await end_of(runtime, spec.instance)
    kept = await lines(runtime, spec.instance)
    assert await runtime.remove(spec.instance)
    assert await observation_of(runtime, spec.instance) == ABSENT
    assert spec.instance not in await runtime.list_instances()
    # "If the engine allows it": all of the log or none of it, never a part.
    assert await lines(runtime, spec.instance) in ([], kept)
    await runtime.purge_logs(spec.instance)
    assert await lines(runtime, spec.instance) == []


async def test_a_running_instance_is_not_removed(runtime: Runtime, runtime_case: RuntimeCase) -> None:
    spec = runtime_case.sleeps()
    await runtime.start(spec)
    assert not await runtime.remove(spec.instance)
    assert (await observation_of(runtime, spec.instance)).state is ObservedState.RUNNING


async def test_an_end_is_final_or_a_start_from_outside_is_observed(
    runtime: Runtime, runtime_case: RuntimeCase
) -> None:
    """`remove` reports success only for an instance that does not run: callers free its capacity then."""
    spec = runtime_case.sleeps()
    await start_and_be_ready(runtime, spec)
    await runtime.stop(spec.instance, 3600)
    first = await end_of(runtime, spec.instance)
    await runtime.close()
    runtime = runtime_case.open()
    runtime_case.start_again(spec)
    runs = runtime_case.live() == [spec.instance]
    assert runs is not runtime.ends_are_final
    observations = await runtime.observe([spec.instance, runtime_case.instance()])
    observation = observations[spec.instance]
    assert (observation.state is ObservedState.RUNNING) is runs
    assert await runtime.remove(spec.instance) is not runs
    if runs:
        assert first.started_at is not None
        assert observation.started_at is not None
        assert observation.started_at > first.started_at
        await runtime.stop(spec.instance, 3600)
        await end_of(runtime, spec.instance)
        assert await runtime.remove(spec.instance)


async def test_a_removed_instance_never_runs_again(runtime: Runtime, runtime_case: RuntimeCase) -> None:
    spec = runtime_case.sleeps()
    await start_and_be_ready(runtime, spec)
    await runtime.stop(spec.instance, 0)
    await end_of(runtime, spec.instance)
    assert await runtime.remove(spec.instance)
    runtime_case.start_again(spec)
    assert runtime_case.live() == []
    assert await observation_of(runtime, spec.instance) == ABSENT


async def test_a_launch_failure_has_a_reason_and_leaves_nothing(
    runtime: Runtime, runtime_case: RuntimeCase
) -> None:
    spec, word = runtime_case.cannot_start()
    with pytest.raises(LaunchFailed, match=word) as refusal:
        await runtime.start(spec)
    assert not refusal.value.retryable
    assert await observation_of(runtime, spec.instance) == ABSENT


async def test_the_environment_arrives_and_the_servers_does_not(
    runtime: Runtime, runtime_case: RuntimeCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not runtime_case.runs_commands:
        pytest.skip("nothing runs here that could read it")
    monkeypatch.setenv("SERVER_SECRET", "do not pass on")
    value = "two words \"quoted\" 'and' $HOME `id` \\n é"
    spec = runtime_case.prints_env("GIVEN", "SERVER_SECRET", env={"GIVEN": value})
    await runtime.start(spec)
    await end_of(runtime, spec.instance)
    assert await lines(runtime, spec.instance) == [f"GIVEN=[{value}]", "SERVER_SECRET=[-]"]


async def test_a_declared_port_can_be_reached(runtime: Runtime, runtime_case: RuntimeCase) -> None:
    if not runtime_case.runs_commands:
        pytest.skip("nothing listens here")
    spec = runtime_case.listens(8080)
    await runtime.start(spec)
    (binding,) = (await observation_of(runtime, spec.instance)).ports
    assert binding.port == 8080
    assert binding.host == "127.0.0.1"
    await eventually(lambda: _connects(binding.host, binding.host_port))


async def test_gpu_indices_arrive(runtime: Runtime, runtime_case: RuntimeCase) -> None:
    if not runtime_case.runs_commands:
        pytest.skip("nothing runs here that devices could reach")
    for indices, variable, observations in runtime_case.gpu_environment:
        spec = runtime_case.prints_env(variable, env={}, gpu_indices=indices)
        await runtime.start(spec)
        await end_of(runtime, spec.instance)
        assert await lines(runtime, spec.instance) == [f"{variable}=[{observations}]"]


async def test_a_command_starts_in_its_working_directory(runtime: Runtime, runtime_case: RuntimeCase) -> None:
    if "working_dir" not in RUNTIMES[runtime_case.name].honoured:
        pytest.skip("this runtime does not honour it")
    for directory in ("/tmp", "/"):
        spec = runtime_case.prints_working_dir(directory)
        await runtime.start(spec)
        assert (await end_of(runtime, spec.instance)).exit_code == 0
        assert await lines(runtime, spec.instance) == [directory]


async def test_the_largest_command_and_environment_start(runtime: Runtime, runtime_case: RuntimeCase) -> None:
    if not isinstance(runtime_case, ShellCase):
        pytest.skip("nothing runs here that could be too large")
    argument, variable = "a" * MAX_STRING_BYTES, "v" * (MAX_STRING_BYTES - len("BIG="))
    spec = runtime_case.shell("echo $# ${#1} ${#BIG}", env={"BIG": variable})
    command = [*spec.command, "sh", argument]
    while (room := MAX_TOTAL_BYTES - size_of(command, spec.env)) > 1:
        command.append("b" * min(MAX_STRING_BYTES, room - 1))
    check_total(command, spec.env)
    await runtime.start(replace(spec, command=tuple(command)))
    assert (await end_of(runtime, spec.instance)).exit_code == 0
    sizes = [len(command) - 4, MAX_STRING_BYTES, len(variable)]
    assert await lines(runtime, spec.instance) == [" ".join(map(str, sizes))]


async def test_the_longest_text_for_a_shell_starts(runtime: Runtime, runtime_case: RuntimeCase) -> None:
    if not isinstance(runtime_case, ShellCase):
        pytest.skip("nothing runs here that could be too large")
    text = "echo started #".ljust(MAX_STRING_BYTES, "x")
    spec = replace(runtime_case.shell(""), command=tuple(in_shell(text)))
    await runtime.start(spec)
    assert (await end_of(runtime, spec.instance)).exit_code == 0
    assert await lines(runtime, spec.instance) == ["started"]


@pytest.mark.parametrize("part", ["argument", "variable", "total"])
async def test_more_than_the_system_takes_is_a_permanent_failure(
    runtime: Runtime, runtime_case: RuntimeCase, part: str
) -> None:
    if not isinstance(runtime_case, ShellCase):
        pytest.skip("nothing runs here that could be too large")
    arguments = {"argument": ["a" * (MAX_STRING_BYTES + 1)], "total": ["a" * 100_000] * 80}.get(part, [])
    env = {"BIG": "v" * (MAX_STRING_BYTES - 3)} if part == "variable" else {}
    spec = runtime_case.shell("echo started", env=env)
    with pytest.raises(LaunchFailed, match=r"at most|argument list too long") as refusal:
        await runtime.start(replace(spec, command=(*spec.command, *arguments)))
    assert not refusal.value.retryable
    assert await observation_of(runtime, spec.instance) == ABSENT


def size_of(command: Sequence[str], env: Mapping[str, str]) -> int:
    """The bytes of the strings with which a program is started, each with its NUL byte."""
    strings = [*command, *(f"{name}={value}" for name, value in env.items())]
    return sum(len(text.encode()) + 1 for text in strings)


async def lines(runtime: Runtime, name: str, *, tail: int | None = None, follow: bool = False) -> list[str]:
    async with asyncio.timeout(PROMPT):
        return await lines_of(runtime, name, tail=tail, follow=follow)


async def start_and_be_ready(runtime: Runtime, spec: LaunchSpec) -> None:
    await runtime.start(spec)

    async def ready() -> bool:
        return await lines(runtime, spec.instance) == ["ready"]

    await eventually(ready, what=f"{spec.instance} being ready")


async def _connects(host: str, port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    writer.close()
    return True
