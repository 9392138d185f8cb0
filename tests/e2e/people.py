"""The `hypervisor` command as a person uses it: its own process, its own credentials."""

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
        """What stdout holds as JSON; fails where anything else stands there."""
        return json.loads(self.stdout)


@dataclass(frozen=True)
class Person:
    """One home folder at one server."""

    home: Path
    url: str

    def run(self, *arguments: str, stdin: str = "", within: float = PROMPT) -> Outcome:
        """Run one command and return how it ended."""
        return Outcome(*forkserver.run(arguments, self.environment, self.home, stdin=stdin, within=within))

    def do(self, *arguments: str, stdin: str = "") -> Outcome:
        """Run one command that must succeed."""
        outcome = self.run(*arguments, stdin=stdin)
        assert outcome.code == 0, f"{arguments}: {outcome.stderr or outcome.stdout}"
        return outcome

    def ask(self, *arguments: str) -> Any:
        """What a command answers as JSON."""
        return self.do("--json", *arguments).data

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "HYPERVISOR_URL": self.url,
            "HYPERVISOR_PASSWORD": PASSWORD,
        }


def newcomer(folder: Path, url: str, name: str) -> Person:
    """A registered person who is logged in."""
    home = folder / name
    home.mkdir()
    person = Person(home, url)
    person.do("register", name, "--email", f"{name}@example.com")
    return person
