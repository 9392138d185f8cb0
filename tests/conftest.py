"""Fixtures for every test; each lives in the module of `tests.support` that is named here."""

from __future__ import annotations

import os

from hypothesis import settings

pytest_plugins = [
    "pytester",
    "tests.support.summary",
    "tests.support.order",
    "tests.support.postgres",
    "tests.support.redis",
    "tests.support.databases",
    "tests.support.server",
]

# A slow machine is no failed property. Every run of the suite tries the same examples, so that it never fails
# by luck; HYPOTHESIS_PROFILE=long searches for new ones as long as a night allows.
settings.register_profile("quick", deadline=None, derandomize=True)
settings.register_profile("long", deadline=None, max_examples=10_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))
