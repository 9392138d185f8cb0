"""Passwords from libpq's password file. The driver reads that file too, but keeps the backslashes of escapes.

https://www.postgresql.org/docs/current/libpq-pgpass.html
"""

from __future__ import annotations

import re
import stat
from pathlib import Path

_FIELD = re.compile(r"((?:\\.|[^\\:])*):")
_ESCAPED = re.compile(r"\\(.)")
_PRIVATE = stat.S_IRWXG | stat.S_IRWXO


def default_file() -> Path | None:
    try:
        return Path.home() / ".pgpass"
    except RuntimeError:
        return None


def stored_password(file: Path, host: str | None, port: int, database: str, user: str) -> str | None:
    """The password of the first line that matches; None without one.

    As in libpq, a file that other users can read is ignored.
    """
    try:
        if file.stat().st_mode & _PRIVATE:
            return None
        lines = file.read_text("utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    hosts = {"*", host or "localhost", "localhost" if (host or "/").startswith("/") else "*"}
    for line in lines:
        fields, password = _split(line)
        if len(fields) == 4 and fields[0] in hosts:
            wanted = zip(fields[1:], (str(port), database, user), strict=True)
            if all(field in ("*", value) for field, value in wanted):
                return password
    return None


def _split(line: str) -> tuple[list[str], str]:
    """The four fields before the password, and the password; fewer fields for a comment or a short line."""
    fields: list[str] = []
    while len(fields) < 4 and not line.startswith("#") and (match := _FIELD.match(line)):
        fields.append(_ESCAPED.sub(r"\1", match[1]))
        line = line[match.end() :]
    return fields, _ESCAPED.sub(r"\1", line)
