"""The environment of a workload is exactly what was asked for, with any shell as supervisor."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hypervisor.kernel.resources import Resources
from hypervisor.runtimes.process import supervisor
from hypervisor.runtimes.process.environment import belongs_to_shells, environment
from hypervisor.runtimes.process.log_files import LogLimits
from hypervisor.runtimes.process.runtime import ProcessRuntime
from hypervisor.runtimes.process.spawner import DirectSpawner
from hypervisor.runtimes.process.supervisor import Placement
from hypervisor.runtimes.protocol import LaunchSpec
from tests.support.observing import end_of
from tests.support.process_runtime import log_of, new_name, shell

OF_THE_C_LIBRARY = 0b11 << 31
"""Signals 32 and 33, whose dispositions a program cannot set."""

SHELLS = ("dash", "bash", "busybox")

SPECIAL = (
    *(
        "boot",
        "stat",
        "records",
        "cgroup",
        "copier",
        "rounds",
        "number",
        "found",
        "children",
        "pid",
        "a",
        "_",
    ),
    *(
        "IFS",
        "OPTIND",
        "OPTARG",
        "OPTERR",
        "PPID",
        "LINENO",
        "ENV",
        "PS1",
        "PS2",
        "PS4",
        "PWD",
        "OLDPWD",
        "HOME",
    ),
    *("BASH", "BASH_ENV", "BASH_VERSION", "BASHOPTS", "BASHPID", "BASH_COMPAT", "BASH_XTRACEFD", "SHELLOPTS"),
    *(
        "UID",
        "EUID",
        "GROUPS",
        "RANDOM",
        "SRANDOM",
        "SECONDS",
        "EPOCHSECONDS",
        "EPOCHREALTIME",
        "SHLVL",
        "HISTCMD",
    ),
    *("FUNCNAME", "FUNCNEST", "DIRSTACK", "PIPESTATUS", "COMP_WORDBREAKS", "GLOBIGNORE", "POSIXLY_CORRECT"),
    *("MAIL", "MAILPATH", "MAILCHECK", "CDPATH", "HISTFILE", "HISTSIZE", "TMOUT", "TERM", "COLUMNS", "LINES"),
    *(
        "LANG",
        "LC_ALL",
        "LC_CTYPE",
        "TZ",
        "HOSTNAME",
        "IGNOREEOF",
        "ATTY",
        "FCEDIT",
        "MALLOC_CHECK_",
    ),
    *("PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "LD_LIBRARY_PATH", "GCONV_PATH", "TMPDIR"),
)


@pytest.fixture(params=SHELLS)
def any_shell(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The supervisors of the test run in this shell."""
    found = shutil.which(request.param)
    if found is None:
        pytest.skip(f"there is no {request.param} here")
    (tmp_path / "bin").mkdir()
    link = tmp_path / "bin" / ("dash" if request.param == "dash" else "sh")
    link.symlink_to(found)
    monkeypatch.setattr(supervisor, "SHELL", str(link))
    return str(request.param)


@pytest.mark.usefixtures("any_shell")
@pytest.mark.parametrize("value", ["x1", "7", "", "two\nlines '\"$(id)` \\n é"])
def test_names_that_shells_use_arrive_unchanged(value: str) -> None:
    assert_arrives(dict.fromkeys(SPECIAL, value))
    assert_arrives({name: value for name in SPECIAL if not belongs_to_shells([name])})


@pytest.mark.parametrize(
    "name", ["boot", "stat", "IFS", "OPTIND", "PPID", "LINENO", "ENV", "PS4", "PWD", "_"]
)
def test_each_of_them_arrives_alone(name: str) -> None:
    assert_arrives({name: "x1"})


NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,30}", fullmatch=True) | st.sampled_from(SPECIAL)
OF_THE_LINKER = re.compile(
    "(LD|GLIBC|MALLOC|GCONV|LOCPATH|NLSPATH|RES|TZ|HV)_?.*|PATH|PORT_?.*|.*_VISIBLE_DEVICES"
)
VALUES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=200)


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(NAMES.filter(lambda name: not OF_THE_LINKER.fullmatch(name)), VALUES, max_size=8))
def test_any_names_and_values_arrive_unchanged(env: dict[str, str]) -> None:
    assert_arrives(env)


@pytest.mark.usefixtures("any_shell")
@pytest.mark.parametrize("env", [{}, {"OPTIND": "x1"}])
async def test_a_program_that_is_gone_at_the_exec_is_explained(
    runtime: ProcessRuntime, tmp_path: Path, env: dict[str, str]
) -> None:
    program = tmp_path / "program"
    program.write_text("#!/nowhere/interpreter\n")
    program.chmod(0o755)
    spec = LaunchSpec(new_name(), Resources(), command=(str(program),), env=env)
    await runtime.start(spec)
    ended = await end_of(runtime, spec.instance)
    assert ended.exit_code in (126, 127)
    assert str(program) in "".join(await log_of(runtime, spec.instance))


@pytest.mark.parametrize("env", [{}, {"OPTIND": "1"}])
async def test_a_workload_starts_with_no_ignored_signal(runtime: ProcessRuntime, env: dict[str, str]) -> None:
    spec = shell("grep SigIgn /proc/self/status", env=env)
    await runtime.start(spec)
    await end_of(runtime, spec.instance)
    (line,) = await log_of(runtime, spec.instance)
    assert int(line.split()[1], 16) & ~OF_THE_C_LIBRARY == 0


@pytest.mark.parametrize("env", [{}, {"OPTIND": "1"}])
@pytest.mark.parametrize("by_name", [False, True])
async def test_a_script_without_an_interpreter_runs_in_the_shell(
    runtime: ProcessRuntime, tmp_path: Path, env: dict[str, str], by_name: bool
) -> None:
    program = tmp_path / "folder" / "program"
    program.parent.mkdir()
    program.write_text('echo "$0 $1"; exit 3\n')
    program.chmod(0o755)
    path = {"PATH": f"/nowhere:{tmp_path}/folder:{os.environ['PATH']}"}
    command = ("program" if by_name else str(program), "two words")
    spec = LaunchSpec(new_name(), Resources(), command=command, env=env | path)
    await runtime.start(spec)
    assert (await end_of(runtime, spec.instance)).exit_code == 3
    assert await log_of(runtime, spec.instance) == [f"{program} two words"]


@pytest.mark.parametrize("name", ["TOKEN", "ENV"])
async def test_a_secret_is_on_no_command_line_and_not_in_the_supervisor(
    runtime: ProcessRuntime, tmp_path: Path, name: str
) -> None:
    secret = "correct-horse-battery-staple"
    script = (
        "cat /proc/*/cmdline | grep -qa [c]orrect-horse && echo on a command line; "
        "cat /proc/$PPID/environ /proc/$PPID/fd/5 | tr '\\0' '\\n'"
    )
    spec = shell(script, env={name: secret})
    await runtime.start(spec)
    await end_of(runtime, spec.instance)
    lines = await log_of(runtime, spec.instance)
    assert any(line.startswith("HV_INSTANCE=") for line in lines)
    assert secret not in "".join(lines)
    assert "on a command line" not in lines


def assert_arrives(env: dict[str, str]) -> None:
    """A program that a supervisor starts has these variables, those of the runtime, and no others."""
    spec = LaunchSpec(new_name(), Resources(), command=("/bin/cat", "/proc/self/environ"), env=env)
    composed = environment(spec, {})
    assert composed.items() >= env.items()
    with tempfile.TemporaryDirectory() as folder:
        output = run(spec, composed, Path(folder))
    entries = [entry.split(b"=", 1) for entry in output.split(b"\0")[:-1]]
    assert sorted(entries) == sorted([name.encode(), value.encode()] for name, value in composed.items())


def run(spec: LaunchSpec, env: dict[str, str], directory: Path) -> bytes:
    """Run a command under a supervisor, without a server; its output."""
    (directory / "work").mkdir()
    placement = Placement(directory, None, LogLimits())
    identity = supervisor.spawn(DirectSpawner(), spec, env, placement)
    assert identity is not None
    os.waitpid(identity.pid, 0)
    assert "exit 0" in (directory / "state").read_text().splitlines()
    return (directory / "log-1").read_bytes()
