"""The help of `cluster create` names the defaults; `cluster update` has none."""

from __future__ import annotations

import pytest
import typer

from hypervisor.cli.commands.cluster_settings import settings_facts
from hypervisor.cli.commands.clusters import app
from hypervisor.cli.main import run
from hypervisor.client.models import Cluster
from hypervisor.clusters.schemas import ClusterUpdate


def help_of(command: str, option: str) -> str:
    group = typer.main.get_group(app)
    (found,) = (each for each in group.commands[command].params if option in each.opts)
    return str(getattr(found, "help", ""))


@pytest.mark.parametrize(
    "option",
    [
        "--gpu",
        "--placement-policy",
        "--optimizer-steps",
        "--solver",
        "--preemption",
        "--min-runtime",
        "--preemption-budget",
        "--preemption-window",
        "--preemption-cooldown",
    ],
)
def test_only_create_names_defaults(option: str) -> None:
    assert "default" in help_of("create", option)
    assert "default" not in help_of("update", option)
    assert help_of("update", option)


def test_the_help_of_a_group_has_whole_sentences_and_its_main_commands_first(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["cluster", "--help"]) == 0
    output = capsys.readouterr().out
    assert "..." not in output.split("Commands:")[1]
    assert "Propose a few moves that would let more queued deployments start." in " ".join(output.split())
    names = [line.split()[0] for line in output.split("Commands:")[1].splitlines() if line[2:3].strip()]
    assert names[:3] == ["create", "list", "show"]


@pytest.mark.parametrize("command", ["simulate", "logs", "deploy", "top", "queue"])
def test_no_help_names_a_range_type(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--help"]) == 0
    assert "range>" not in capsys.readouterr().out


FLAGS = {
    "min_runtime_seconds": "--min-runtime",
    "preemption_window_seconds": "--preemption-window",
    "preemption_cooldown_seconds": "--preemption-cooldown",
    "total_cpu_cores": "--cpu",
    "total_ram_gb": "--ram",
    "total_gpu_count": "--gpu",
}
"""Fields of the API whose flag is not the name of the field."""


@pytest.mark.parametrize("field", ClusterUpdate.model_fields)
def test_every_setting_of_the_api_has_a_flag(field: str) -> None:
    assert help_of("update", FLAGS.get(field, f"--{field.replace('_', '-')}"))


def test_show_has_a_row_for_every_setting() -> None:
    cluster: Cluster = {
        "placement_policy": "fgd",
        "optimizer_steps": 0,
        "solver": "exact",
        "preemption": True,
        "min_runtime_seconds": 60,
        "preemption_budget": 3,
        "preemption_window_seconds": 7200,
        "preemption_cooldown_seconds": 900,
    }
    assert settings_facts(cluster) == [
        ("Placement", "fgd"),
        ("Optimizer", "off (solver exact, 0 steps)"),
        ("Preemption", "on"),
        ("Min runtime", "60 s"),
        ("Budget", "safe for 900 s after 3 preemptions within 7200 s"),
    ]
    assert ("Optimizer", "exact, up to 20,000 steps per pass") in settings_facts(
        {**cluster, "optimizer_steps": 20_000}
    )
    assert ("Budget", "none") in settings_facts({**cluster, "preemption_budget": 0})
