"""Runs a program as a user whom the modes of files bind."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence

import pytest


def as_plain_user(argv: Sequence[str]) -> list[str]:
    """The command line: root gives up the capabilities that pass over modes, its files stay its own."""
    if os.geteuid() != 0:
        return list(argv)
    if shutil.which("setpriv") is None:
        pytest.skip("there is no setpriv here")
    taken = "-dac_override,-dac_read_search"
    return ["setpriv", f"--bounding-set={taken}", f"--inh-caps={taken}", *argv]
