"""Renamed options: the old name works, a note names the new one, and the help does not show it."""

from __future__ import annotations

from typing import ClassVar

import pytest
import typer
from typer.core import TyperCommand
from typer.main import get_command
from typer.testing import CliRunner

from hypervisor.cli.commands import clusters
from hypervisor.cli.commands.simulate import simulate
from hypervisor.cli.core.failures import describe
from hypervisor.cli.core.old_flags import WithOldFlags

app = typer.Typer()


class _Renamed(WithOldFlags):
    old_flags: ClassVar = {"--packer": "--solver"}


@app.command(cls=_Renamed)
def command(solver: str = "search") -> None:
    typer.echo(solver)


@pytest.mark.parametrize("arguments", [["--packer", "exact"], ["--packer=exact"]])
def test_the_old_name_sets_the_new_option(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.stdout == "exact\n"
    assert result.stderr == "note: --packer is now --solver; the next version removes the old name\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--packer", "exact", "--solver", "search"],
        ["--solver", "search", "--packer", "exact"],
        ["--packer=exact", "--solver", "exact"],
        ["--packer=exact", "--solver=search"],
    ],
)
def test_both_names_together_are_wrong_usage(arguments: list[str]) -> None:
    failure = CliRunner().invoke(app, arguments, standalone_mode=False).exception
    assert isinstance(failure, Exception)
    code, line = describe(failure)
    assert (code, line.partition(" (see")[0]) == (2, "give --solver only; --packer is its old name")


def test_the_new_name_needs_no_note_and_the_help_shows_no_other() -> None:
    assert CliRunner().invoke(app, ["--solver", "exact"]).stderr == ""
    assert "--packer" not in CliRunner().invoke(app, ["--help"]).stdout


def test_every_old_name_replaces_an_option_of_its_command() -> None:
    group = get_command(clusters.app)
    renamed = [group.commands["create"], group.commands["update"], get_command(simulate.app)]  # type: ignore[attr-defined]
    for found in renamed:
        assert isinstance(found, WithOldFlags)
        options = _options(found)
        assert options >= set(found.old_flags.values())
        assert options.isdisjoint(found.old_flags)


def _options(found: TyperCommand) -> set[str]:
    return {name for parameter in found.params for name in parameter.opts}
