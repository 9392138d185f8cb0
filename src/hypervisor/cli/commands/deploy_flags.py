"""The options of `hypervisor deploy`, by parameter name."""

from __future__ import annotations

from typing import Annotated

import typer

Name = Annotated[str | None, typer.Argument(metavar="NAME", help="Name of the deployment.")]
File = Annotated[
    str | None, typer.Option("--file", "-f", help="YAML file with one or several deployments; - reads stdin.")
]
Cluster = Annotated[
    str | None, typer.Option("--cluster", "-c", help="Cluster name or id; optional with a single cluster.")
]
Image = Annotated[str | None, typer.Option("--image", help="Container image (runtime docker).")]
Job = Annotated[
    bool,
    typer.Option(
        "--job", help="A job, which runs to its end; default: a service, which runs until it is stopped."
    ),
]
Cpu = Annotated[float | None, typer.Option("--cpu", help="CPU cores (default 1).")]
Ram = Annotated[float | None, typer.Option("--ram", help="RAM in GB (default 1).")]
Gpu = Annotated[
    float | None, typer.Option("--gpu", help="GPUs: a whole number, or a fraction below 1 (default 0).")
]
Priority = Annotated[
    str | None, typer.Option("--priority", "-p", help="LOW, MEDIUM (default), HIGH, CRITICAL or 0-1000.")
]
Env = Annotated[
    list[str] | None,
    typer.Option("--env", "-e", metavar="KEY=VALUE", help="Environment variable. Repeatable."),
]
Secret = Annotated[
    list[str] | None,
    typer.Option(
        "--secret", metavar="KEY=VALUE", help="Like --env, but stored encrypted and never shown. Repeatable."
    ),
]
Port = Annotated[
    list[int] | None,
    typer.Option("--port", metavar="PORT", help="Port that the workload listens on. Repeatable."),
]
After = Annotated[
    list[str] | None,
    typer.Option(
        "--after",
        metavar="NAME[:running]",
        help="Start after this deployment has succeeded, or with :running, after it runs. Repeatable.",
    ),
]
OnFailure = Annotated[
    str | None, typer.Option(help="When a deployment of --after fails: cancel (default) or hold.")
]
MinRuntime = Annotated[
    int | None, typer.Option(help="Seconds that each run is safe from preemption (default 0).")
]
MaxRuntime = Annotated[int | None, typer.Option(help="Seconds after which a run is stopped; default: never.")]
Grace = Annotated[int | None, typer.Option(help="Seconds between TERM and KILL (default 10).")]
NeverPreempt = Annotated[
    bool, typer.Option("--never-preempt", help="Protect it from preemption by a higher priority.")
]
Restart = Annotated[
    str | None, typer.Option(help="When a run ends, restart it: never, on-failure or always.")
]
Retries = Annotated[int | None, typer.Option(min=0, help="Number of restarts after a failure.")]
RetryOn = Annotated[
    str | None,
    typer.Option("--retry-on", metavar="CODES", help="Restart only after these exit codes, such as 1,137."),
]
Replicas = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Number of replicas that start together, all or none; each has the full request (default 1).",
    ),
]
Spread = Annotated[
    bool, typer.Option("--spread", help="Spread the replicas over many nodes; default: pack them on few.")
]
GangTimeout = Annotated[
    int | None,
    typer.Option(help="Seconds until all replicas must run, else all are queued again (default 300)."),
]
Label = Annotated[
    list[str] | None, typer.Option("--label", "-l", metavar="KEY=VALUE", help="Label. Repeatable.")
]
NodeSelector = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY=VALUE", help="Label that the node must have. Repeatable."),
]
GpuModel = Annotated[
    list[str] | None, typer.Option(metavar="MODEL", help="Accepted GPU model; default: any. Repeatable.")
]
ReadOnly = Annotated[bool, typer.Option("--read-only", help="Read-only root file system (runtime docker).")]
Plan = Annotated[
    bool, typer.Option("--plan", help="Do not submit; show the node, the start time and the evictions.")
]
Wait = Annotated[bool, typer.Option("--wait", "-w", help="Wait until a job has ended or a service runs.")]
Timeout = Annotated[float | None, typer.Option(min=0.1, help="Most seconds of --wait; default: no limit.")]
