"""The password file of libpq."""

from __future__ import annotations

from pathlib import Path

import pytest

from hypervisor.store.driver.pgpass import stored_password

LINES = r"""
# h:1:x:u:a comment
h:1:x:u:first
h:1:x:u:second
[short
h2:*:*:u:with\:colon\\and:plain
*:*:my\:db:*:any host
localhost:*:x:u:by socket
"""


@pytest.mark.parametrize(
    ("host", "port", "database", "user", "password"),
    [
        ("h", 1, "x", "u", "first"),
        ("h", 2, "x", "u", None),
        ("h2", 9, "y", "u", "with:colon\\and:plain"),
        ("h3", 9, "my:db", "w", "any host"),
        (None, 5432, "x", "u", "by socket"),
        ("/run/postgresql", 5432, "x", "u", "by socket"),
        ("elsewhere", 5432, "x", "u", None),
    ],
)
def test_the_first_matching_line(
    tmp_path: Path, host: str | None, port: int, database: str, user: str, password: str | None
) -> None:
    file = tmp_path / ".pgpass"
    file.write_text(LINES)
    file.chmod(0o600)
    assert stored_password(file, host, port, database, user) == password


def test_a_file_that_others_can_read_is_ignored(tmp_path: Path) -> None:
    file = tmp_path / ".pgpass"
    file.write_text("*:*:*:*:p\n")
    file.chmod(0o640)
    assert stored_password(file, "h", 1, "x", "u") is None
    assert stored_password(tmp_path / "none", "h", 1, "x", "u") is None
