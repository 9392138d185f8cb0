"""A user of the `hypervisor` command, with a home folder and credentials."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import forkserver
from tests.support.wait import PROMPT

PASSWORD = "a long sentence is fine"


@dataclass(frozen=True)
class Outcome:
    code: int
    stdout: str
    stderr: str

    @property
    def data(self) -> Any:
        """Stdout as JSON. Raises ValueError for other output."""
        return json.loads(self.stdout)


@dataclass(frozen=True)
class CliUser:
    """A user with a home folder on one server."""

    home: Path
    url: str

    def run(self, *arguments: str, stdin: str = "", timeout: float = PROMPT) -> Outcome:
        """Run one command."""
        return Outcome(*forkserver.run(arguments, self.environment, self.home, stdin=stdin, within=timeout))

    def run_ok(self, *arguments: str, stdin: str = "") -> Outcome:
        """Run one command that must succeed."""
        outcome = self.run(*arguments, stdin=stdin)
        assert outcome.code == 0, f"{arguments}: {outcome.stderr or outcome.stdout}"
        return outcome

    def run_json(self, *arguments: str) -> Any:
        """Run one command with --json that must succeed, and return its JSON."""
        return self.run_ok("--json", *arguments).data

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "HYPERVISOR_URL": self.url,
            "HYPERVISOR_PASSWORD": PASSWORD,
        }


def registered_user(folder: Path, url: str, name: str) -> CliUser:
    """A registered and logged-in user."""
    home = folder / name
    home.mkdir()
    user = CliUser(home, url)
    user.run_ok("register", name, "--email", f"{name}@example.com")
    return user
