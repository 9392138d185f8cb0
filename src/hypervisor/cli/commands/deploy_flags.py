"""The deployment options of `hypervisor deploy`, and their conversion to the fields of a request.

A parameter of `_template` with the name of an API field sets that field. `_converted` converts the other
options.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer
from typer.main import get_command

from hypervisor.cli.commands.option_values import join_environment, parse_codes, parse_dependency
from hypervisor.cli.core.key_values import parse_pairs


def parameters() -> list[Any]:
    """The parameters for a command."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command()(_template)
    return [parameter for parameter in get_command(app).params if parameter.name != "help"]


def fields_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the set options, by API name."""
    if options["max_retries"] and options["job"] and not (options["restart_policy"] or options["retry_on"]):
        options = {**options, "restart_policy": "on-failure"}
    if options["max_retries"] and options["restart_policy"] == "never":
        raise typer.BadParameter("--retries needs --restart on-failure or always, not never")
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
        bool,
        typer.Option(
            "--job", help="A job, which runs to its end; default: a service, which runs until it is stopped."
        ),
    ] = False,
    required_cpu_cores: Annotated[float | None, typer.Option("--cpu", help="CPU cores (default 1).")] = None,
    required_ram_gb: Annotated[float | None, typer.Option("--ram", help="RAM in GB (default 1).")] = None,
    required_gpu_count: Annotated[
        float | None,
        typer.Option("--gpu", help="GPUs: a whole number, or a fraction from 0.1 to below 1 (default 0)."),
    ] = None,
    priority: Annotated[
        str | None, typer.Option("--priority", "-p", help="LOW, MEDIUM (default), HIGH, CRITICAL or 0-1000.")
    ] = None,
    env: Annotated[
        list[str] | None,
        typer.Option("--env", "-e", metavar="KEY=VALUE", help="Environment variable. Repeatable."),
    ] = None,
    secret: Annotated[
        list[str] | None,
        typer.Option(
            "--secret", metavar="KEY=VALUE", help="Like --env, but encrypted and never shown. Repeatable."
        ),
    ] = None,
    ports: Annotated[
        list[int] | None,
        typer.Option("--port", metavar="PORT", help="Port that the workload listens on. Repeatable."),
    ] = None,
    working_dir: Annotated[
        str | None,
        typer.Option("--workdir", metavar="DIR", help="Working directory of the command, an absolute path."),
    ] = None,
    after: Annotated[
        list[str] | None,
        typer.Option(
            "--after",
            metavar="NAME[:running]",
            help="Start after this deployment has succeeded, or with :running, after it runs. Repeatable.",
        ),
    ] = None,
    on_failure: Annotated[
        str | None, typer.Option(help="When a deployment of --after fails: cancel (default) or hold.")
    ] = None,
    min_runtime_seconds: Annotated[
        int | None,
        typer.Option("--min-runtime", help="Seconds that each run is safe from preemption (default 0)."),
    ] = None,
    max_runtime_seconds: Annotated[
        int | None,
        typer.Option("--max-runtime", help="Seconds after which a run is stopped; default: never."),
    ] = None,
    grace_period_seconds: Annotated[
        int | None, typer.Option("--grace", help="Seconds between stop signal and KILL (default 10).")
    ] = None,
    never_preempt: Annotated[
        bool, typer.Option("--never-preempt", help="Protect it from preemption by a higher priority.")
    ] = False,
    restart_policy: Annotated[
        str | None, typer.Option("--restart", help="Restart a run that ends: never, on-failure or always.")
    ] = None,
    max_retries: Annotated[
        int | None,
        typer.Option("--retries", min=0, help="Number of restarts; a job is then restarted on failure."),
    ] = None,
    retry_on: Annotated[
        str | None,
        typer.Option(
            "--retry-on", metavar="CODES", help="Restart only after these exit codes, such as 1,137."
        ),
    ] = None,
    replicas: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Replicas that start together, all or none, each with the full request (default 1).",
        ),
    ] = None,
    spread: Annotated[
        bool, typer.Option("--spread", help="Spread the replicas over many nodes; default: pack them on few.")
    ] = False,
    gang_timeout_seconds: Annotated[
        int | None,
        typer.Option(
            "--gang-timeout",
            help="Seconds until all replicas must run, else all are queued again (default 300).",
        ),
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option("--label", "-l", metavar="KEY=VALUE", help="Label. Repeatable.")
    ] = None,
    node_selector: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Label that the node must have. Repeatable."),
    ] = None,
    gpu_models: Annotated[
        list[str] | None,
        typer.Option("--gpu-model", metavar="MODEL", help="Accepted GPU model; default: any. Repeatable."),
    ] = None,
    read_only_root: Annotated[
        bool | None, typer.Option("--read-only", help="Read-only root file system (runtime docker).")
    ] = None,
) -> None:
    """Declares the options; never called."""
