"""The help of `cluster create` names the defaults; `cluster update` has none."""

from __future__ import annotations

import pytest
import typer

from hypervisor.cli.commands.clusters import app


def help_of(command: str, option: str) -> str:
    group = typer.main.get_group(app)
    (found,) = (each for each in group.commands[command].params if option in each.opts)
    return str(getattr(found, "help", ""))


@pytest.mark.parametrize(
    "option",
    ["--gpu", "--placement-policy", "--optimizer-steps", "--solver", "--preemption", "--min-runtime"],
)
def test_only_create_names_defaults(option: str) -> None:
    assert "default" in help_of("create", option)
    assert "default" not in help_of("update", option)
    assert help_of("update", option)
