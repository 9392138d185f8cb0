"""The session of a command: the common options, the API client and the output."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Self

import typer
from rich.console import Console, RenderableType

from hypervisor.cli.core import options
from hypervisor.cli.core.credentials import Credentials, FileTokens
from hypervisor.cli.core.formatting import duration
from hypervisor.cli.core.output import make_console, print_json
from hypervisor.client import Client, ClientError, MemoryTokens, RetryPolicy, Tokens, TokenStore
from hypervisor.client.client import DEFAULT_URL
from hypervisor.client.transport import normalise_url


class Session:
    """The context of one command. The connection opens at the first request."""

    def __init__(self, common: options.Options) -> None:
        self.options = common
        self.console = make_console()
        self.errors = make_console(stderr=True)
        self.credentials = Credentials()

    @classmethod
    def of(cls, context: typer.Context) -> Self:
        """The session for the running command; closed with it."""
        session = cls(options.of(context))
        context.call_on_close(session.close)
        return session

    @property
    def as_json(self) -> bool:
        return self.options.json

    @cached_property
    def url(self) -> str:
        """The URL from the options, else of the latest login, else the local default."""
        return normalise_url(self.options.url or self.credentials.default_url or DEFAULT_URL)

    @cached_property
    def client(self) -> Client:
        return Client(self.url, tokens=self._tokens(), retry=self._retry())

    def close(self) -> None:
        if "client" in self.__dict__:
            self.client.close()

    def show(self, data: object, *renderables: RenderableType) -> None:
        """Print `data` with --json, else the renderables."""
        if self.as_json:
            print_json(data)
            return
        for renderable in renderables:
            self.console.print(renderable)

    def note(self, text: str) -> None:
        """Print a remark on stderr; nothing with --json."""
        if not self.as_json:
            self.errors.print(text)

    def render(self, data: object, make: Callable[[], RenderableType]) -> None:
        """Like `show`, with a renderable that is built only when it is printed."""
        if self.as_json:
            print_json(data)
        else:
            self.console.print(make())

    def _retry(self) -> RetryPolicy:
        seconds = self.options.retry_seconds
        policy = RetryPolicy.from_environment() if seconds is None else RetryPolicy(seconds)
        return replace(policy, on_outage=self._report_outage)

    def _report_outage(self, error: ClientError, seconds: float) -> None:
        """Once per outage, with --json too: the command seems to hang otherwise."""
        self.errors.print(f"the server does not answer; trying again for {duration(seconds)} ({error})")

    def _tokens(self) -> TokenStore:
        token = os.environ.get("HYPERVISOR_TOKEN")
        return MemoryTokens(Tokens(token)) if token else FileTokens(self.credentials, self.url)


def is_interactive(console: Console) -> bool:
    """Whether the console is a terminal that can show live displays."""
    return console.is_terminal and not console.is_dumb_terminal
