"""Displays that refresh until Ctrl-C: in place on a terminal, one after the other elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import typer
from rich.console import RenderableType
from rich.live import Live

from hypervisor.cli.core.output import print_json, print_json_line
from hypervisor.cli.core.session import Session, is_interactive
from hypervisor.client.outages import Outage, surviving

Interval = Annotated[float, typer.Option("--interval", "-i", min=0.2, help="Seconds between two refreshes.")]
Once = Annotated[bool, typer.Option("--once", help="Print once and exit.")]
Fetch = Callable[[], tuple[Any, RenderableType]]
"""Returns the data for JSON and the display for people."""


def show_live(session: Session, fetch: Fetch, interval: float, *, once: bool) -> None:
    """Show the result of `fetch` every `interval` seconds; with `once`, a single time.

    Only the first `fetch` must succeed; later ones are repeated while the server does not answer.
    """
    if once:
        data, display = fetch()
        print_json(data) if session.as_json else session.console.print(display)
        return
    if session.as_json or not is_interactive(session.console):
        _print_repeatedly(session, fetch, interval)
        return
    with Live(console=session.console, auto_refresh=False) as live:
        for _, display in _repeatedly(session, fetch, interval):
            live.update(display, refresh=True)


def _repeatedly(session: Session, fetch: Fetch, interval: float) -> Iterator[tuple[Any, RenderableType]]:
    yield fetch()
    outage = Outage(session.client.retry)
    while True:
        time.sleep(interval)
        yield surviving(outage, fetch)


def _print_repeatedly(session: Session, fetch: Fetch, interval: float) -> None:
    for data, display in _repeatedly(session, fetch, interval):
        if session.as_json:
            print_json_line(data)
        else:
            session.console.print(display)
            session.console.file.flush()
