"""A command group that imports the module of a command only when the command is called."""

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
class LazyCommand:
    """A command: its section of the help, its target "module:attribute", and its help line.

    The attribute is a function, or a `typer.Typer` for a group of commands. `common_options` names the
    options of `core.options` that are added to the command.
    """

    section: str
    target: str
    help: str
    common_options: tuple[str, ...]

    def load(self, name: str) -> Any:
        """Import the module and return the command."""
        module, attribute = self.target.split(":")
        target = getattr(import_module(module), attribute)
        command = get_command(target if isinstance(target, typer.Typer) else _as_app(name, target))
        command.name = name
        _add_options(command, self.common_options)
        _simplify_ranges(command)
        return command


class LazyGroup(TyperGroup):
    """Subclasses fill `entries`; its order is the order of the help."""

    entries: ClassVar[Mapping[str, LazyCommand]] = {}

    def list_commands(self, _ctx: Any) -> list[str]:
        return list(self.entries)

    def get_command(self, _ctx: Any, cmd_name: str) -> Any:
        entry = self.entries.get(cmd_name)
        return None if entry is None else entry.load(cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in self.entries and not args[0].startswith("-"):
            matches = get_close_matches(args[0], self.entries, n=1)
            ctx.fail(f"no such command: {args[0]}" + (f"; did you mean {matches[0]}?" if matches else ""))
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


def _as_app(name: str, function: Callable[..., Any]) -> typer.Typer:
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command(name)(function)
    return app


def _add_options(command: Any, names: tuple[str, ...]) -> None:
    """Add the common options to a command; for a group, to each of its commands."""
    if isinstance(command, TyperGroup):
        for child in command.commands.values():
            _add_options(child, names)
    else:
        command.params.extend(options.parameters(names))


def _simplify_ranges(command: Any) -> None:
    """Show `<int>` for a number with limits, instead of `<int range>`. The limits are in the help line."""
    for child in getattr(command, "commands", {}).values():
        _simplify_ranges(child)
    for parameter in command.params:
        kind = getattr(parameter, "type_descriptor", None)
        if kind is not None and kind.is_ranged and parameter.metavar is None:
            parameter.metavar = f"<{kind.ranged_type_name}>"


def _completion_item() -> Any:
    return import_module("typer._click.shell_completion").CompletionItem
