"""register, login, logout, whoami."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from hypervisor.cli.core.output import facts
from hypervisor.cli.core.session import Session

Username = Annotated[str | None, typer.Argument(metavar="USERNAME", help="Asked for when left out.")]
Password = Annotated[
    str | None,
    typer.Option(envvar="HYPERVISOR_PASSWORD", help="Asked for when left out; better not typed here."),
]


def register(
    context: typer.Context,
    username: Username = None,
    email: Annotated[str | None, typer.Option(help="Asked for when left out.")] = None,
    password: Password = None,
) -> None:
    """Make an account on the server and log in to it."""
    session = Session.of(context)
    name = username or ask("Username")
    address = email or ask("E-mail")
    secret = password or ask_password(confirm=True)
    user = session.client.accounts.register(name, address, secret)
    session.client.accounts.login(name, secret)
    session.show(user, f"Welcome, {user['username']}: you are registered and logged in at {session.url}.")
    session.note(
        "Next: `hypervisor org create NAME`, or `hypervisor org join CODE` with a code that you were given."
    )


def login(context: typer.Context, username: Username = None, password: Password = None) -> None:
    """Log in; the session is remembered in ~/.config/hypervisor/credentials.json."""
    session = Session.of(context)
    name = username or ask("Username")
    session.client.accounts.login(name, password or ask_password())
    user = session.client.accounts.me()
    session.show(user, f"Logged in to {session.url} as {user['username']}.")


def logout(context: typer.Context) -> None:
    """End the session on the server and forget it here."""
    session = Session.of(context)
    if session.client.tokens.load() is None:
        session.show({"logged_out": False}, "You were not logged in.")
        return
    session.client.accounts.logout()
    session.show({"logged_out": True}, f"Logged out of {session.url}.")


def whoami(context: typer.Context) -> None:
    """Who is logged in, on which server, in which organizations."""
    session = Session.of(context)
    user = session.client.accounts.me()
    roles = [f"{each['name']} ({each['role']})" for each in user.get("organizations", [])]
    session.show(
        {**user, "url": session.url},
        facts(
            [
                ("User", f"{user['username']} <{user['email']}>"),
                ("Id", user["id"]),
                ("Superuser", "yes" if user.get("is_superuser") else ""),
                ("Organizations", ", ".join(roles) or "none yet"),
                ("Server", session.url),
            ]
        ),
    )


def ask(what: str) -> str:
    """Ask at the terminal. Raises a usage error where there is nobody to ask."""
    if not sys.stdin.isatty():
        raise typer.BadParameter(f"{what.lower()} is missing and there is no terminal to ask at")
    return str(typer.prompt(what, err=True))


def ask_password(*, confirm: bool = False) -> str:
    if not sys.stdin.isatty():
        raise typer.BadParameter("no password: use --password, HYPERVISOR_PASSWORD or a terminal")
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=confirm, err=True))
