"""The demo succeeds and leaves no process and no file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest


@pytest.mark.slow
def test_the_demo_succeeds_and_leaves_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hypervisor", "demo"],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "TMPDIR": str(tmp_path)},
        cwd=tmp_path,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    for text in (
        "evicted",
        "reprieved",
        "missing",
        "held-out accuracy",
        "virginica",
        "resumed",
        "SUCCEEDED",
    ):
        assert text in done.stdout
    assert "\x1b[" not in done.stdout
    assert list(tmp_path.iterdir()) == []
    assert not [
        process
        for process in psutil.process_iter(["cmdline"])
        if str(tmp_path) in str(process.info["cmdline"])
    ]
