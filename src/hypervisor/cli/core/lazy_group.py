"""A command group whose commands are imported when they are called, not before."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import Any, ClassVar

import typer
from typer.core import TyperGroup
from typer.main import get_command

from hypervisor.cli.core import options


@dataclass(frozen=True)
class Entry:
    """One command: its section in the help, where it is ("module:attribute"), one line of help.

    The attribute is a function, or a `typer.Typer` where the command has commands of its own. `takes` are
    the common options that are added to it.
    """

    section: str
    target: str
    help: str
    takes: tuple[str, ...] = ("url", "json")

    def load(self, name: str) -> Any:
        module, attribute = self.target.split(":")
        found = getattr(import_module(module), attribute)
        command = get_command(found if isinstance(found, typer.Typer) else _wrap(name, found))
        command.name = name
        _add_options(command, self.takes)
        return command


class LazyGroup(TyperGroup):
    """Subclass it and fill `entries`; their order is the order of the help."""

    entries: ClassVar[Mapping[str, Entry]] = {}

    def list_commands(self, _ctx: Any) -> list[str]:
        return list(self.entries)

    def get_command(self, _ctx: Any, cmd_name: str) -> Any:
        entry = self.entries.get(cmd_name)
        return None if entry is None else entry.load(cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in self.entries and not args[0].startswith("-"):
            near = get_close_matches(args[0], self.entries, n=1)
            ctx.fail(f"no such command: {args[0]}" + (f"; did you mean {near[0]}?" if near else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, _ctx: Any, formatter: Any) -> None:
        for section in dict.fromkeys(entry.section for entry in self.entries.values()):
            rows = [(name, entry.help) for name, entry in self.entries.items() if entry.section == section]
            with formatter.section(section):
                formatter.write_dl(rows, col_max=18)

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        found = super(TyperGroup, self).shell_complete(ctx, incomplete)
        item = type(found[0]) if found else _completion_item()
        names = [name for name in self.entries if name.startswith(incomplete)]
        return [item(name, help=self.entries[name].help) for name in names] + found


def _wrap(name: str, function: Callable[..., Any]) -> typer.Typer:
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command(name)(function)
    return app


def _add_options(command: Any, takes: tuple[str, ...]) -> None:
    """Every command takes the common options; of a group, each of its commands does."""
    if isinstance(command, TyperGroup):
        for child in command.commands.values():
            _add_options(child, takes)
    else:
        command.params.extend(options.parameters(takes))


def _completion_item() -> Any:
    return import_module("typer._click.shell_completion").CompletionItem
