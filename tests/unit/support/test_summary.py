"""The test summary: it counts tests per backend, and fails the run if a required backend is skipped."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TESTS = """
    import pytest
    from tests.support.summary import count_for

    @pytest.fixture
    def sqlite_url(request):
        count_for(request, "sqlite")

    def test_database(sqlite_url): ...

    @pytest.mark.docker
    def test_container(): ...

    @pytest.mark.docker
    def test_no_engine():
        pytest.skip("no Docker engine answers")

    @pytest.mark.skipif(True, reason="another platform")
    def test_elsewhere(): ...
"""


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("HV_REQUIRE_DOCKER", raising=False)
    pytester.makeini("[pytest]\nmarkers =\n    docker: needs an engine")
    pytester.makepyfile(TESTS)
    return pytester


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["one process", "xdist"])
def test_counts_and_reasons_are_printed(run: pytest.Pytester, workers: list[str]) -> None:
    result = run.runpytest_subprocess("-q", "-p", "tests.support.summary", *workers)

    result.assert_outcomes(passed=2, skipped=2)
    result.stdout.fnmatch_lines(
        [
            "backends: sqlite 1, postgresql 0, redis 0, docker 1, browser 0",
            "skipped: 1 x another platform",
            "skipped: 1 x no Docker engine answers",
        ]
    )


def test_a_skip_of_a_required_backend_fails_the_run(
    run: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HV_REQUIRE_DOCKER", "1")

    result = run.runpytest_subprocess("-p", "tests.support.summary")

    result.assert_outcomes(passed=2, failed=1, skipped=1)
    result.stdout.fnmatch_lines(["*skipped although HV_REQUIRE_DOCKER=1: no Docker engine answers"])
