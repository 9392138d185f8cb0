"""Prompts for account data at a terminal."""

from __future__ import annotations

import sys

import typer


def prompt(label: str) -> str:
    """Prompt for a value. Raises a usage error when stdin is not a terminal."""
    if not sys.stdin.isatty():
        raise typer.BadParameter(f"{label.lower()} is missing, and stdin is not a terminal to prompt for it")
    return str(typer.prompt(label, err=True))


def prompt_password(*, confirm: bool = False) -> str:
    """Prompt for a password without echo. Raises a usage error when stdin is not a terminal."""
    if not sys.stdin.isatty():
        raise typer.BadParameter("no password: set --password or HYPERVISOR_PASSWORD, or run in a terminal")
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=confirm, err=True))
