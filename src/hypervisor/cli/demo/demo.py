"""`hypervisor demo`: the scenes in their order, and the exit code."""

from __future__ import annotations

import time

from rich.console import Console

from hypervisor.cli.core.failures import CommandFailed
from hypervisor.cli.core.output import make_console
from hypervisor.cli.demo.polling import DemoFailed, until
from hypervisor.cli.demo.server import DemoServer, demo_server
from hypervisor.cli.demo.steps import DemoSteps
from hypervisor.client import ClientError

GONE_WITHIN = 60.0


def demo() -> None:
    """See everything work, in under a minute: a real server, real processes, a real model.

    Two people, an organization, a small cluster; low-priority jobs that fill it; an urgent training job
    that makes exactly as many of them give way as it needs; a service that waits for the trained model and
    answers a prediction. Everything runs in a temporary folder and is gone at the end.
    """
    console = make_console()
    began = time.monotonic()
    try:
        with demo_server() as stage:
            _perform(console, stage)
    except (DemoFailed, ClientError) as error:
        raise CommandFailed(f"the demo did not go as it should: {error}") from error
    console.print(f"\nDone in {time.monotonic() - began:.0f} s. Nothing is left running.", style="bold green")
    console.print("Your turn: `hypervisor serve`, then `hypervisor register` in another terminal.")


def _perform(console: Console, stage: DemoServer) -> None:
    play = DemoSteps(console, stage)
    play.gather()
    play.fill()
    play.wait_in_line()
    play.preempt()
    play.train()
    play.predict()
    play.return_of_the_preempted()
    play.bow()
    stage.close()
    until(
        "no process of the demo remains",
        lambda: not stage.remaining(),
        within=GONE_WITHIN,
        seen=lambda: [each.cmdline() for each in stage.remaining()],
    )
