"""The credentials file: the sessions of the command line, one per server, readable by the owner only."""

from __future__ import annotations

import fcntl
import json
import os
import pwd
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypervisor.cli.core.failures import CommandFailed
from hypervisor.client import Tokens

FILE_MODE = 0o600
FOLDER_MODE = 0o700


class Credentials:
    """The whole file: the server of the latest login, and one session per server."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path or default_path()

    @property
    def path(self) -> Path:
        """The file. Raises CommandFailed for a user without a home folder."""
        if self._path is None:
            raise CommandFailed(
                "this user has no home folder for the session: set HOME or XDG_CONFIG_HOME to a folder, "
                "or set HYPERVISOR_TOKEN"
            )
        return self._path

    @property
    def default_url(self) -> str | None:
        """The server of the latest login."""
        url: str | None = self._read().get("default")
        return url

    def tokens(self, url: str) -> Tokens | None:
        """The session of a server, None without one."""
        entry = self._read().get("servers", {}).get(url)
        return None if entry is None else Tokens(entry["access_token"], entry.get("refresh_token"))

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
        """The content; empty without a file. Raises CommandFailed for a file that cannot be used."""
        if self._path is None:
            return {}
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except OSError as error:
            raise CommandFailed(
                f"cannot read {self._path} ({error.strerror}): make it a file of this user, or set "
                "XDG_CONFIG_HOME to another folder"
            ) from None
        except (ValueError, RecursionError):
            content = None
        if not _is_valid(content):
            raise CommandFailed(
                f"{self._path} is damaged: delete it and log in again with `hypervisor login`"
            )
        valid: dict[str, Any] = content
        return valid

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


def default_path() -> Path | None:
    """`~/.config/hypervisor/credentials.json`, or below XDG_CONFIG_HOME when it is set.

    None for a user without a home folder.
    """
    base = os.environ.get("XDG_CONFIG_HOME")
    folder = Path(base) if base else _configuration_folder()
    return None if folder is None else folder / "hypervisor" / "credentials.json"


def _configuration_folder() -> Path | None:
    home = os.environ.get("HOME")
    if not home:
        try:
            home = pwd.getpwuid(os.getuid()).pw_dir
        except KeyError:
            return None
    return Path(home) / ".config" if home else None


def _is_valid(content: object) -> bool:
    """Whether the content has the form that `save` writes."""
    if not isinstance(content, dict) or not isinstance(content.get("default", ""), str):
        return False
    servers = content.get("servers", {})
    return isinstance(servers, dict) and all(map(_is_session, servers.values()))


def _is_session(entry: object) -> bool:
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("access_token"), str)
        and isinstance(entry.get("refresh_token"), str | None)
    )
