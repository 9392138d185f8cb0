"""The credentials file: the sessions of the command line, one per server, readable by the owner only."""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypervisor.client import Tokens

FILE_MODE = 0o600
FOLDER_MODE = 0o700


class Credentials:
    """The whole file: the server of the latest login, and one session per server."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or default_path()

    @property
    def default_url(self) -> str | None:
        """The server of the latest login."""
        url = self._read().get("default")
        return url if isinstance(url, str) else None

    def tokens(self, url: str) -> Tokens | None:
        """The session of a server, None without one."""
        entry = self._read().get("servers", {}).get(url)
        if not isinstance(entry, dict) or not isinstance(entry.get("access_token"), str):
            return None
        return Tokens(entry["access_token"], entry.get("refresh_token"))

    def save(self, url: str, tokens: Tokens | None) -> None:
        """Store a session and make its server the default; with None, remove the session."""
        content = self._read()
        servers = content.setdefault("servers", {})
        if tokens is None:
            servers.pop(url, None)
        else:
            content["default"] = url
            servers[url] = {"access_token": tokens.access, "refresh_token": tokens.refresh}
        self._write(content)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock of the file against other processes of this user."""
        self._make_folder()
        with self.path.with_suffix(".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _read(self) -> dict[str, Any]:
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def _write(self, content: dict[str, Any]) -> None:
        self._make_folder()
        # mkstemp creates the file with mode 600. The rename makes the change atomic.
        descriptor, name = tempfile.mkstemp(prefix=".credentials-", dir=self.path.parent)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=2)
            file.write("\n")
        Path(name).chmod(FILE_MODE)
        Path(name).replace(self.path)

    def _make_folder(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=FOLDER_MODE)


class FileTokens:
    """A TokenStore: the session of one server in the credentials file."""

    def __init__(self, credentials: Credentials, url: str) -> None:
        self._credentials = credentials
        self._url = url

    def load(self) -> Tokens | None:
        return self._credentials.tokens(self._url)

    def save(self, tokens: Tokens | None) -> None:
        self._credentials.save(self._url, tokens)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        with self._credentials.locked():
            yield


def default_path() -> Path:
    """`~/.config/hypervisor/credentials.json`, or below XDG_CONFIG_HOME when it is set."""
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "hypervisor" / "credentials.json"
