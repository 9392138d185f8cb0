"""The entry point: the table of commands, and where an error becomes one line and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, ClassVar, NoReturn

import typer
from typer.main import get_command

from hypervisor import __version__
from hypervisor.cli.core import options
from hypervisor.cli.core.lazy_group import Entry, LazyGroup

REFUSED = 1
USAGE = 2
INTERRUPTED = 130

_SERVER = "Server"
_YOU = "You and your organizations"
_CLUSTERS = "Clusters"
_WORK = "Deployments"
_IN_ORG = ("url", "json", "organization")


class Commands(LazyGroup):
    entries: ClassVar = {
        "serve": Entry(_SERVER, "hypervisor.cli.commands.serve.serve:serve", "Run the server.", takes=()),
        "demo": Entry(
            _SERVER, "hypervisor.cli.demo.demo:demo", "See everything work, in a minute.", takes=()
        ),
        "simulate": Entry(
            _SERVER,
            "hypervisor.cli.commands.simulate.simulate:simulate",
            "Run a workload in virtual time.",
            takes=("url", "organization"),
        ),
        "migrate": Entry(
            _SERVER, "hypervisor.cli.commands.admin:migrate", "Update the database.", takes=("json",)
        ),
        "doctor": Entry(
            _SERVER, "hypervisor.cli.doctor.doctor:doctor", "Find out what is wrong.", takes=("json",)
        ),
        "backup": Entry(
            _SERVER, "hypervisor.cli.commands.backups:backup", "Save the embedded database.", takes=("json",)
        ),
        "restore": Entry(
            _SERVER, "hypervisor.cli.commands.backups:restore", "Bring a backup back.", takes=("json",)
        ),
        "create-superuser": Entry(
            _SERVER,
            "hypervisor.cli.commands.admin:create_superuser",
            "Make an administrator of it all.",
            takes=("json",),
        ),
        "register": Entry(_YOU, "hypervisor.cli.commands.accounts:register", "Make an account and log in."),
        "login": Entry(_YOU, "hypervisor.cli.commands.accounts:login", "Log in and remember it."),
        "logout": Entry(_YOU, "hypervisor.cli.commands.accounts:logout", "End the session."),
        "whoami": Entry(
            _YOU, "hypervisor.cli.commands.accounts:whoami", "Who is logged in, where, with which roles."
        ),
        "org": Entry(
            _YOU, "hypervisor.cli.commands.organizations:app", "Organizations, members, invite codes."
        ),
        "cluster": Entry(
            _CLUSTERS, "hypervisor.cli.commands.clusters:app", "Clusters and their nodes.", takes=_IN_ORG
        ),
        "queue": Entry(
            _CLUSTERS,
            "hypervisor.cli.commands.deploy_plan:queue",
            "Who waits, in which order.",
            takes=_IN_ORG,
        ),
        "decisions": Entry(
            _CLUSTERS,
            "hypervisor.cli.commands.decisions:decisions",
            "What the scheduler decided.",
            takes=_IN_ORG,
        ),
        "replay": Entry(_CLUSTERS, "hypervisor.cli.commands.decisions:replay", "Decide again, and compare."),
        "top": Entry(
            _CLUSTERS, "hypervisor.cli.commands.watch:top", "How full the nodes are.", takes=_IN_ORG
        ),
        "deploy": Entry(
            _WORK, "hypervisor.cli.commands.deploy:app", "Submit work, by flags or a file.", takes=_IN_ORG
        ),
        "ps": Entry(_WORK, "hypervisor.cli.commands.deployments:ps", "List deployments.", takes=_IN_ORG),
        "show": Entry(
            _WORK, "hypervisor.cli.commands.deployments:show", "Everything about one.", takes=_IN_ORG
        ),
        "explain": Entry(
            _WORK, "hypervisor.cli.commands.explain:explain", "Why it waits, or gave way.", takes=_IN_ORG
        ),
        "logs": Entry(_WORK, "hypervisor.cli.commands.explain:logs", "What it wrote.", takes=_IN_ORG),
        "events": Entry(
            _WORK, "hypervisor.cli.commands.explain:events", "What happened, and when.", takes=_IN_ORG
        ),
        "attempts": Entry(
            _WORK, "hypervisor.cli.commands.deployments:attempts", "Each of its runs.", takes=_IN_ORG
        ),
        "start": Entry(
            _WORK, "hypervisor.cli.commands.deployments:start", "Queue again what has ended.", takes=_IN_ORG
        ),
        "stop": Entry(_WORK, "hypervisor.cli.commands.deployments:stop", "End what runs.", takes=_IN_ORG),
        "cancel": Entry(
            _WORK,
            "hypervisor.cli.commands.deployments:cancel",
            "Take it out, queued or running.",
            takes=_IN_ORG,
        ),
        "rm": Entry(_WORK, "hypervisor.cli.commands.deployments:remove", "Delete it.", takes=_IN_ORG),
        "watch": Entry(_WORK, "hypervisor.cli.commands.watch:watch", "A table that follows.", takes=_IN_ORG),
    }


app = typer.Typer(
    cls=Commands,
    name="hypervisor",
    help="Decide which ML workloads run where, run them, and say why.",
    epilog="First steps: hypervisor serve, then hypervisor register. To see it work: hypervisor demo.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(f"hypervisor {__version__}")
        raise typer.Exit()
    if context.invoked_subcommand is None:
        # Options alone ask for nothing.
        typer.echo(context.get_help())


def main() -> NoReturn:
    """Run the command line of this process and exit."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command line; the exit code: 0, 1 for a refusal, 2 for wrong usage, 130 for Ctrl-C."""
    command = get_command(app)
    command.params.extend(options.parameters(_IN_ORG))
    try:
        code = command.main(list(arguments) or ["--help"], prog_name="hypervisor", standalone_mode=False)
        sys.stdout.flush()
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        _silence_stdout()
        return REFUSED
    except Exception as error:
        if os.environ.get("HYPERVISOR_DEBUG"):
            raise
        return _report(error)
    return code if isinstance(code, int) else 0


def _report(error: Exception) -> int:
    # Loaded only now: telling the errors of the SDK apart needs the SDK.
    code, line = import_module("hypervisor.cli.core.failures").describe(error)
    typer.echo(f"error: {line}", err=True)
    return int(code)


def _silence_stdout() -> None:
    """The reader has gone: let the interpreter's last flush go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
