"""`hypervisor register`, `login`, `logout` and `whoami`."""

from __future__ import annotations

from typing import Annotated

import typer

from hypervisor.cli.core.output import facts
from hypervisor.cli.core.prompts import prompt, prompt_password
from hypervisor.cli.core.session import Session

Username = Annotated[str | None, typer.Argument(metavar="USERNAME", help="Username; default: prompt.")]
Password = Annotated[
    str | None,
    typer.Option(
        envvar="HYPERVISOR_PASSWORD",
        help="Password; default: prompt. On the command line other users of the machine can see it.",
    ),
]


def register(
    context: typer.Context,
    username: Username = None,
    email: Annotated[str | None, typer.Option(help="E-mail address; default: prompt.")] = None,
    password: Password = None,
) -> None:
    """Create an account on the server and log in."""
    session = Session.of(context)
    name = username or prompt("Username")
    address = email or prompt("E-mail")
    secret = password or prompt_password(confirm=True)
    user = session.client.accounts.register(name, address, secret)
    session.client.accounts.login(name, secret)
    session.show(user, f"Registered {user['username']} and logged in to {session.url}.")
    session.note("Next: `hypervisor org create NAME`, or `hypervisor org join CODE` with an invite code.")


def login(context: typer.Context, username: Username = None, password: Password = None) -> None:
    """Log in and store the session in ~/.config/hypervisor/credentials.json."""
    session = Session.of(context)
    name = username or prompt("Username")
    session.client.accounts.login(name, password or prompt_password())
    user = session.client.accounts.me()
    session.show(user, f"Logged in to {session.url} as {user['username']}.")


def logout(context: typer.Context) -> None:
    """End the session on the server and remove it from the credentials file."""
    session = Session.of(context)
    if session.client.tokens.load() is None:
        session.show({"logged_out": False}, f"There is no session for {session.url}.")
        return
    session.client.accounts.logout()
    session.show({"logged_out": True}, f"Logged out of {session.url}.")


def whoami(context: typer.Context) -> None:
    """Show the logged-in user, the organizations with roles, and the server."""
    session = Session.of(context)
    user = session.client.accounts.me()
    roles = [f"{membership['name']} ({membership['role']})" for membership in user.get("organizations", [])]
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
