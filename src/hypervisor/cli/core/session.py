"""What a command works with: the common options, a client, and the way to answer."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cached_property
from typing import Self

import typer
from rich.console import Console, RenderableType

from hypervisor.cli.core import options
from hypervisor.cli.core.credentials import Credentials, FileTokens
from hypervisor.cli.core.output import make_console, print_json
from hypervisor.client import Client, MemoryTokens, Tokens, TokenStore
from hypervisor.client.client import DEFAULT_URL
from hypervisor.client.transport import normalise_url


class Session:
    """One command's run. The connection opens when it is first used."""

    def __init__(self, given: options.Options) -> None:
        self.options = given
        self.console = make_console()
        self.errors = make_console(stderr=True)
        self.credentials = Credentials()

    @classmethod
    def of(cls, context: typer.Context) -> Self:
        session = cls(options.of(context))
        context.call_on_close(session.close)
        return session

    @property
    def as_json(self) -> bool:
        return self.options.json

    @cached_property
    def url(self) -> str:
        """What the options say, else the server of the latest login, else the local default."""
        return normalise_url(self.options.url or self.credentials.default_url or DEFAULT_URL)

    @cached_property
    def client(self) -> Client:
        return Client(self.url, tokens=self._tokens())

    def close(self) -> None:
        if "client" in self.__dict__:
            self.client.close()

    def show(self, data: object, *renderables: RenderableType) -> None:
        """Answer with `data` as JSON where that was asked for, else with what people read."""
        if self.as_json:
            print_json(data)
            return
        for renderable in renderables:
            self.console.print(renderable)

    def note(self, text: str) -> None:
        """A remark beside the answer: on stderr, never in JSON."""
        if not self.as_json:
            self.errors.print(text)

    def render(self, data: object, make: Callable[[], RenderableType]) -> None:
        """Like `show`, for what is costly to draw."""
        if self.as_json:
            print_json(data)
        else:
            self.console.print(make())

    def _tokens(self) -> TokenStore:
        fixed = os.environ.get("HYPERVISOR_TOKEN")
        return MemoryTokens(Tokens(fixed)) if fixed else FileTokens(self.credentials, self.url)


def is_interactive(console: Console) -> bool:
    """Whether moving displays make sense: a person looks at a terminal."""
    return console.is_terminal and not console.is_dumb_terminal
