"""The entry point of `hypervisor`: the table of commands, exit codes, and one line for every error."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from typing import Annotated, ClassVar, NoReturn

import typer
from typer.main import get_command

from hypervisor import __version__
from hypervisor.cli.core import options
from hypervisor.cli.core.lazy_group import LazyCommand, LazyGroup
from hypervisor.cli.core.streams import decode_arguments, discard, finish_streams, prepare_streams

REFUSED = 1
INTERRUPTED = 130

_SERVER = "Server"
_ACCOUNTS = "Account and organizations"
_CLUSTERS = "Clusters"
_DEPLOYMENTS = "Deployments"
_COMMANDS = "hypervisor.cli.commands"
_IN_ORG = ("url", "json", "organization")
_WAITS = (*_IN_ORG, "retry_seconds")


def _command(
    section: str, target: str, help_line: str, common_options: tuple[str, ...] = _IN_ORG
) -> LazyCommand:
    """A command of the room `commands`."""
    return LazyCommand(section, f"{_COMMANDS}.{target}", help_line, common_options)


class Commands(LazyGroup):
    entries: ClassVar = {
        "serve": _command(_SERVER, "serve.serve:serve", "Run the server.", ()),
        "demo": LazyCommand(
            _SERVER, "hypervisor.cli.demo.demo:demo", "Run a demonstration, in under a minute.", ()
        ),
        "simulate": _command(
            _SERVER,
            "simulate.simulate:app",
            "Run the scheduler on a workload in virtual time.",
            ("url", "organization"),
        ),
        "migrate": _command(
            _SERVER, "admin:migrate", "Update the database schema to this version.", ("json",)
        ),
        "doctor": LazyCommand(
            _SERVER,
            "hypervisor.cli.doctor.doctor:doctor",
            "Check the configuration and the services of a server.",
            ("json",),
        ),
        "backup": _command(_SERVER, "backups:backup", "Back up the embedded database.", ("json",)),
        "restore": _command(_SERVER, "backups:restore", "Restore a backup.", ("json",)),
        "create-superuser": _command(_SERVER, "admin:create_superuser", "Create a superuser.", ("json",)),
        "replace-key": _command(
            _SERVER, "recovery:replace_key", "Accept a new SECRET_KEY after the old one was lost.", ("json",)
        ),
        "release-engine": _command(
            _SERVER, "recovery:release_engine", "Give up an engine whose machine is lost.", ("json",)
        ),
        "register": _command(
            _ACCOUNTS, "accounts:register", "Create an account and log in.", ("url", "json")
        ),
        "login": _command(_ACCOUNTS, "accounts:login", "Log in and store the session.", ("url", "json")),
        "logout": _command(_ACCOUNTS, "accounts:logout", "End the session.", ("url", "json")),
        "whoami": _command(
            _ACCOUNTS, "accounts:whoami", "Show the user, the roles and the server.", ("url", "json")
        ),
        "org": _command(
            _ACCOUNTS, "organizations:app", "Organizations, members and invite codes.", ("url", "json")
        ),
        "cluster": _command(_CLUSTERS, "clusters:app", "Clusters and their nodes."),
        "queue": _command(_CLUSTERS, "queue:queue", "Show the queue in scheduling order."),
        "decisions": _command(_CLUSTERS, "decisions:decisions", "List the decisions of the scheduler."),
        "replay": _command(
            _CLUSTERS, "replay:replay", "Run a decision again and compare the plans.", ("url", "json")
        ),
        "top": _command(_CLUSTERS, "top:top", "Show the usage of the nodes.", _WAITS),
        "deploy": _command(_DEPLOYMENTS, "deploy:app", "Submit deployments, from options or a file.", _WAITS),
        "ps": _command(_DEPLOYMENTS, "ps:ps", "List deployments."),
        "show": _command(_DEPLOYMENTS, "show:show", "Show all fields of a deployment."),
        "explain": _command(_DEPLOYMENTS, "explain:explain", "Show why it waits, runs or was preempted."),
        "logs": _command(_DEPLOYMENTS, "logs:logs", "Print the output of a deployment.", _WAITS),
        "events": _command(_DEPLOYMENTS, "events:events", "Print the event history.", _WAITS),
        "attempts": _command(_DEPLOYMENTS, "attempts:attempts", "List the runs of a deployment."),
        "start": _command(_DEPLOYMENTS, "lifecycle:start", "Queue ended deployments again."),
        "stop": _command(_DEPLOYMENTS, "lifecycle:stop", "Stop running deployments.", _WAITS),
        "cancel": _command(
            _DEPLOYMENTS, "lifecycle:cancel", "Cancel deployments, queued or running.", _WAITS
        ),
        "rm": _command(_DEPLOYMENTS, "lifecycle:remove", "Delete deployments."),
        "watch": _command(_DEPLOYMENTS, "watch:watch", "Show a live table of deployments.", _WAITS),
    }


app = typer.Typer(
    cls=Commands,
    name="hypervisor",
    help="Schedule ML workloads on shared clusters, run them, and explain every decision.",
    epilog="First steps: hypervisor serve, then hypervisor register. For a demonstration: hypervisor demo.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        typer.echo(f"hypervisor {__version__}")
        raise typer.Exit()
    if context.invoked_subcommand is None:
        # Options without a command, such as `hypervisor --json`.
        typer.echo(context.get_help())


def main() -> NoReturn:
    """Run the command line of this process and exit."""
    prepare_streams()
    code = run(decode_arguments(sys.argv[1:]))
    finish_streams()
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return the exit code.

    The code is 0, 1 for a refusal or failure, 2 for wrong usage, 75 for a wait that was given up because the
    server did not answer, 130 for Ctrl-C.
    """
    command = get_command(app)
    command.params.extend(options.parameters(_IN_ORG))
    try:
        code = command.main(list(arguments) or ["--help"], prog_name="hypervisor", standalone_mode=False)
        sys.stdout.flush()
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        discard(sys.stdout)
        return REFUSED
    except Exception as error:
        if os.environ.get("HYPERVISOR_DEBUG"):
            raise
        return _report(error)
    return code if isinstance(code, int) else 0


def _report(error: Exception) -> int:
    # Imported only on failure: `failures` imports the SDK, which is slow to load.
    code, line = import_module("hypervisor.cli.core.failures").describe(error)
    with suppress(OSError):
        typer.echo(f"error: {line}", err=True)
    return int(code)
