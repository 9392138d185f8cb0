"""The options of `hypervisor deploy`, each under the name of its parameter."""

from __future__ import annotations

from typing import Annotated

import typer

Name = Annotated[str | None, typer.Argument(metavar="NAME", help="Its name.")]
File = Annotated[
    str | None, typer.Option("--file", "-f", help="A YAML file with one or several; - is stdin.")
]
Cluster = Annotated[
    str | None, typer.Option("--cluster", "-c", help="Name or id; not needed where there is one.")
]
Image = Annotated[str | None, typer.Option("--image", help="Container image (runtime docker).")]
Job = Annotated[bool, typer.Option("--job", help="It runs to its end; else a service, until stopped.")]
Cpu = Annotated[float | None, typer.Option("--cpu", help="CPU cores (default 1).")]
Ram = Annotated[float | None, typer.Option("--ram", help="RAM in GB (default 1).")]
Gpu = Annotated[float | None, typer.Option("--gpu", help="GPUs: whole, or a part of one below 1.")]
Priority = Annotated[
    str | None, typer.Option("--priority", "-p", help="LOW, MEDIUM (default), HIGH, CRITICAL or 0-1000.")
]
Env = Annotated[list[str] | None, typer.Option("--env", "-e", metavar="KEY=VALUE", help="Repeatable.")]
Secret = Annotated[
    list[str] | None,
    typer.Option("--secret", metavar="KEY=VALUE", help="Like --env, sealed and never shown. Repeatable."),
]
Port = Annotated[
    list[int] | None, typer.Option("--port", metavar="PORT", help="A port that it listens on. Repeatable.")
]
After = Annotated[
    list[str] | None,
    typer.Option(
        "--after", metavar="NAME[:running]", help="Wait until that one succeeded (or runs). Repeatable."
    ),
]
OnFailure = Annotated[
    str | None, typer.Option(help="What it does when one of those fails: cancel (default) or hold.")
]
MinRuntime = Annotated[int | None, typer.Option(help="Seconds that each run is safe from preemption.")]
MaxRuntime = Annotated[int | None, typer.Option(help="Seconds after which a run is ended.")]
Grace = Annotated[int | None, typer.Option(help="Seconds between TERM and KILL (default 10).")]
NeverPreempt = Annotated[bool, typer.Option("--never-preempt", help="Higher priority may not evict it.")]
Restart = Annotated[str | None, typer.Option(help="never, on-failure or always.")]
Retries = Annotated[int | None, typer.Option(min=0, help="How often it is tried again.")]
RetryOn = Annotated[
    str | None,
    typer.Option("--retry-on", metavar="CODES", help="Only these exit codes are retried, as 1,137."),
]
Replicas = Annotated[
    int | None, typer.Option(min=1, help="So many start together, all or none, each with these needs.")
]
Spread = Annotated[
    bool, typer.Option("--spread", help="Replicas on as many nodes as possible; else on as few.")
]
GangTimeout = Annotated[
    int | None, typer.Option(help="Seconds until all replicas must run (default 300), else all requeue.")
]
Label = Annotated[list[str] | None, typer.Option("--label", "-l", metavar="KEY=VALUE", help="Repeatable.")]
NodeSelector = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY=VALUE", help="A label that its node must have. Repeatable."),
]
GpuModel = Annotated[
    list[str] | None, typer.Option(metavar="MODEL", help="A GPU model that will do. Repeatable.")
]
ReadOnly = Annotated[bool, typer.Option("--read-only", help="Read-only root file system (docker).")]
Plan = Annotated[
    bool, typer.Option("--plan", help="Only say what would happen: when, where, who would give way.")
]
Wait = Annotated[
    bool, typer.Option("--wait", "-w", help="Follow it until a job ended well or a service runs.")
]
Timeout = Annotated[float | None, typer.Option(min=0.1, help="Seconds that --wait waits at most.")]
