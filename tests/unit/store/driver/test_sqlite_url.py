"""SQLite URLs: the file, or a refusal in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from hypervisor.errors import StartupError
from hypervisor.store.driver.address import parse_database_url


@pytest.mark.parametrize(
    ("url", "file"),
    [
        ("sqlite:///a.db", "a.db"),
        ("sqlite:///./data/a.db", "data/a.db"),
        ("sqlite:////var/lib/a.db", "/var/lib/a.db"),
        ("sqlite+aiosqlite:///a.db", "a.db"),
        ("sqlite:///with space.db", "with space.db"),
        ("sqlite:///a.db?timeout=5", "a.db"),
        ("sqlite:///50%25.db", "50%25.db"),
    ],
)
def test_the_file(url: str, file: str) -> None:
    assert parse_database_url(url).file == Path(file)


def test_the_time_to_wait_for_a_lock() -> None:
    waiting = parse_database_url("sqlite:///a.db?timeout=2.5").sqlite
    assert waiting is not None
    assert waiting.timeout == 2.5


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("sqlite://", "names no file; use sqlite:///path/to.db"),
        ("sqlite:///", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("sqlite://a.db", "has two slashes before a file"),
        ("sqlite://host/a.db", "has two slashes before a file"),
        ("sqlite:a.db", "is not a database URL"),
        ("sqlite:///file:a.db?mode=ro&uri=true", "has a file: URI, which is not supported; write the path"),
        ("sqlite:///a.db?mode=ro", "has the parameter 'mode', which is not supported for SQLite; remove it"),
        ("sqlite:///a.db?plugin=none", "has the parameter 'plugin', which is not supported for SQLite"),
        ("sqlite:///a.db?timeout=abc", "timeout=abc is not a duration; write seconds"),
        ("sqlite:///~/a.db", "has a ~, which is not expanded; write the whole path"),
        ("sqlite:////tmp/", "names a folder; write the file"),
        ("sqlite:////tmp", "names a folder; write the file"),
    ],
)
def test_what_is_no_file_is_refused(url: str, named: str) -> None:
    with pytest.raises(StartupError) as refused:
        parse_database_url(url)
    assert named in str(refused.value)
    assert str(refused.value).startswith("DATABASE_URL")
