"""The options of `hypervisor deploy` that describe a deployment, and the request that they make.

A parameter of `_template` with the name of a field of the API sets that field. `_converted` makes fields of
the other options.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer
from typer.main import get_command

from hypervisor.cli.commands.node_flags import parse_pairs
from hypervisor.cli.commands.spec_file import join_environment, parse_codes, parse_dependency


def parameters() -> list[Any]:
    """The options, to add to a command."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command()(_template)
    return [parameter for parameter in get_command(app).params if parameter.name != "help"]


def fields_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """What the values of the options say of the deployment, under the names of the API."""
    plain = {name: value for name, value in options.items() if name not in _CONVERTED}
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in {**plain, **_converted(options)}.items()
        if value not in (None, (), [])
    }


_CONVERTED = (
    "job",
    "env",
    "secret",
    "after",
    "never_preempt",
    "retry_on",
    "spread",
    "label",
    "node_selector",
)


def _converted(options: Mapping[str, Any]) -> dict[str, Any]:
    after = options["after"]
    return {
        "kind": "job" if options["job"] else None,
        "env": join_environment(
            parse_pairs(options["env"], "--env"), parse_pairs(options["secret"], "--secret")
        ),
        "depends_on": [parse_dependency(text) for text in after] if after else None,
        "preemptible": False if options["never_preempt"] else None,
        "retry_exit_codes": parse_codes(options["retry_on"]),
        "replica_placement": "spread" if options["spread"] else None,
        "labels": parse_pairs(options["label"]),
        "node_selector": parse_pairs(options["node_selector"], "--node-selector"),
    }


def _template(
    docker_image: Annotated[
        str | None, typer.Option("--image", help="Container image (runtime docker).")
    ] = None,
    job: Annotated[
        bool, typer.Option("--job", help="It runs to its end; else a service, until stopped.")
    ] = False,
    required_cpu_cores: Annotated[float | None, typer.Option("--cpu", help="CPU cores (default 1).")] = None,
    required_ram_gb: Annotated[float | None, typer.Option("--ram", help="RAM in GB (default 1).")] = None,
    required_gpu_count: Annotated[
        float | None, typer.Option("--gpu", help="GPUs: whole, or a part of one below 1.")
    ] = None,
    priority: Annotated[
        str | None, typer.Option("--priority", "-p", help="LOW, MEDIUM (default), HIGH, CRITICAL or 0-1000.")
    ] = None,
    env: Annotated[
        list[str] | None, typer.Option("--env", "-e", metavar="KEY=VALUE", help="Repeatable.")
    ] = None,
    secret: Annotated[
        list[str] | None,
        typer.Option("--secret", metavar="KEY=VALUE", help="Like --env, sealed and never shown. Repeatable."),
    ] = None,
    ports: Annotated[
        list[int] | None,
        typer.Option("--port", metavar="PORT", help="A port that it listens on. Repeatable."),
    ] = None,
    working_dir: Annotated[
        str | None,
        typer.Option("--workdir", metavar="DIR", help="Where its command starts: an absolute path."),
    ] = None,
    after: Annotated[
        list[str] | None,
        typer.Option(
            "--after", metavar="NAME[:running]", help="Wait until that one succeeded (or runs). Repeatable."
        ),
    ] = None,
    on_failure: Annotated[
        str | None, typer.Option(help="What it does when one of those fails: cancel (default) or hold.")
    ] = None,
    min_runtime_seconds: Annotated[
        int | None, typer.Option("--min-runtime", help="Seconds that each run is safe from preemption.")
    ] = None,
    max_runtime_seconds: Annotated[
        int | None, typer.Option("--max-runtime", help="Seconds after which a run is ended.")
    ] = None,
    grace_period_seconds: Annotated[
        int | None, typer.Option("--grace", help="Seconds between TERM and KILL (default 10).")
    ] = None,
    never_preempt: Annotated[
        bool, typer.Option("--never-preempt", help="Higher priority may not evict it.")
    ] = False,
    restart_policy: Annotated[
        str | None, typer.Option("--restart", help="never, on-failure or always.")
    ] = None,
    max_retries: Annotated[
        int | None, typer.Option("--retries", min=0, help="How often it is tried again.")
    ] = None,
    retry_on: Annotated[
        str | None,
        typer.Option("--retry-on", metavar="CODES", help="Only these exit codes are retried, as 1,137."),
    ] = None,
    replicas: Annotated[
        int | None, typer.Option(min=1, help="So many start together, all or none, each with these needs.")
    ] = None,
    spread: Annotated[
        bool, typer.Option("--spread", help="Replicas on as many nodes as possible; else on as few.")
    ] = False,
    gang_timeout_seconds: Annotated[
        int | None,
        typer.Option(
            "--gang-timeout", help="Seconds until all replicas must run (default 300), else all requeue."
        ),
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option("--label", "-l", metavar="KEY=VALUE", help="Repeatable.")
    ] = None,
    node_selector: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="A label that its node must have. Repeatable."),
    ] = None,
    gpu_models: Annotated[
        list[str] | None,
        typer.Option("--gpu-model", metavar="MODEL", help="A GPU model that will do. Repeatable."),
    ] = None,
    read_only_root: Annotated[
        bool | None, typer.Option("--read-only", help="Read-only root file system (docker).")
    ] = None,
) -> None:
    """Holds the declarations; never called."""
