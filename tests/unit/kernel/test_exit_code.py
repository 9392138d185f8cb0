"""Words for exit codes."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from hypervisor.kernel.exit_code import describe_exit_code, meaning, possible_signal


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "exit code 0"),
        (3, "exit code 3"),
        (126, "exit code 126 (a program could not be executed, or the program's own code)"),
        (127, "exit code 127 (a program was not found, or the program's own code)"),
        (128, "exit code 128"),
        (130, "exit code 130 (SIGINT, or the program's own code)"),
        (137, "exit code 137 (SIGKILL, or the program's own code)"),
        (139, "exit code 139 (SIGSEGV, or the program's own code)"),
        (143, "exit code 143 (SIGTERM, or the program's own code)"),
        (160, "exit code 160 (signal 32, or the program's own code)"),
        (163, "exit code 163 (signal 35, or the program's own code)"),
        (192, "exit code 192 (SIGRTMAX, or the program's own code)"),
        (193, "exit code 193"),
        (254, "exit code 254"),
        (255, "exit code 255"),
    ],
)
def test_a_code_names_a_signal_only_where_there_is_one(code: int, words: str) -> None:
    assert describe_exit_code(code) == words


def test_every_signal_of_the_platform_is_possible_and_no_other() -> None:
    possible = {number for code in range(256) if (number := possible_signal(code)) is not None}
    assert possible == {*range(1, signal.SIGRTMAX + 1)}
    assert possible >= {int(number) for number in signal.valid_signals()}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGRTMAX])
def test_the_words_match_what_a_shell_reports(number: int) -> None:
    program = f"{sys.executable} -c 'import os; os.kill(os.getpid(), {number:d})'; exit $?"
    code = subprocess.run(["/bin/sh", "-c", program], check=False, capture_output=True).returncode
    assert (meaning(code) or "").startswith(signal.Signals(number).name)
