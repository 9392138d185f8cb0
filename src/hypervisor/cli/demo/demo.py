"""The command `hypervisor demo`."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import time
from pathlib import Path

from rich.console import Console

from hypervisor.cli.core.failures import CommandFailed
from hypervisor.cli.core.output import make_console
from hypervisor.cli.demo.polling import DemoFailed, until
from hypervisor.cli.demo.server import DemoServer, demo_server
from hypervisor.cli.demo.steps import DemoSteps
from hypervisor.client import ClientError

EXIT_TIMEOUT = 60.0
"""Seconds until all processes of the demo must have ended."""


def demo() -> None:
    """Run a demonstration on a temporary server, in under a minute.

    Two users share a small cluster. Low-priority jobs fill it. An urgent training job preempts exactly as
    many of them as necessary. A service waits for the trained model and returns a prediction. The preempted
    jobs resume from their checkpoints. Everything runs in a temporary folder, which is deleted at the end.
    """
    console = make_console()
    started = time.monotonic()
    try:
        with demo_server() as server:
            _run_steps(console, server)
    except (DemoFailed, ClientError) as error:
        raise CommandFailed(f"the demo failed: {error}") from error
    console.print(
        f"\nDone in {time.monotonic() - started:.0f} s. All processes have ended.", style="bold green"
    )
    command = own_command()
    console.print(f"Next: `{command} serve`, then `{command} register` in another terminal.")


def own_command() -> str:
    """A command that runs this command line in the current shell: by name, by path, or by module."""
    started = Path(sys.argv[0])
    if shutil.which("hypervisor"):
        return "hypervisor"
    if started.name == "hypervisor" and os.access(started, os.X_OK):
        return shlex.quote(str(started))
    return f"{shlex.quote(sys.executable)} -m hypervisor"


def _run_steps(console: Console, server: DemoServer) -> None:
    steps = DemoSteps(console, server)
    steps.create_users_and_cluster()
    steps.fill_cluster()
    steps.explain_queued()
    steps.preempt()
    steps.train()
    steps.predict()
    steps.resume_preempted()
    steps.stop_service()
    server.close()
    until(
        "no process of the demo is left",
        lambda: not server.remaining(),
        timeout=EXIT_TIMEOUT,
        observed=lambda: [process.cmdline() for process in server.remaining()],
    )
