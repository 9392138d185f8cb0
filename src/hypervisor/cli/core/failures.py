"""The error line and the exit code of every failure."""

from __future__ import annotations

import errno
import os
import sys
from http import HTTPStatus
from typing import Any

import typer

from hypervisor.cli.core.response_faults import unexpected_response
from hypervisor.cli.core.streams import printable
from hypervisor.cli.core.terminal_text import without_controls
from hypervisor.client import ApiError, ClientError, ServerAway
from hypervisor.errors import HypervisorError, StartupError

REFUSED = 1
WRONG_USAGE = 2
SERVER_AWAY = 75
"""As EX_TEMPFAIL: the same command may succeed later."""
_SESSION_LOST = ("invalid_token", "session_ended", "invalid_refresh_token")
_FROM_WRONG_TYPES = (TypeError, ValueError, AttributeError, LookupError, ArithmeticError)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

_COMMAND_LINE = {
    "?force=true": "--force",
    "Give cluster_id": "Set --cluster",
    "POST .../regenerate-invite": "`hypervisor org invite --regenerate`",
}
"""What a refusal of the API advises, in terms of the command line."""


class CommandFailed(Exception):
    """A command cannot do what was requested. The message is one line."""


class WrongUsage(CommandFailed):
    """The input of a command cannot be used. The message is one line with the place."""


class FileFaults(CommandFailed):
    """A file has faults. The message has one line for each, with its place."""


def describe(error: Exception) -> tuple[int, str]:
    """The exit code and the error line."""
    if isinstance(error, typer.TyperException):
        return error.exit_code, _usage(error)
    if isinstance(error, FileFaults):
        return WRONG_USAGE, "\nerror: ".join(_one_line(line) for line in str(error).split("\n"))
    if isinstance(error, WrongUsage):
        return WRONG_USAGE, _one_line(str(error))
    if isinstance(error, ApiError):
        return REFUSED, _refusal(error)
    if isinstance(error, ServerAway):
        return SERVER_AWAY, _one_line(str(error))
    if isinstance(error, (ClientError, CommandFailed, StartupError, HypervisorError)):
        return REFUSED, _one_line(str(error))
    if isinstance(error, OSError) and error.strerror:
        return REFUSED, _system_error(error)
    if isinstance(error, UnicodeEncodeError) and error.encoding == sys.getfilesystemencoding():
        return REFUSED, f"this locale cannot name the file {error.object}: set LC_ALL=C.UTF-8"
    if isinstance(error, _FROM_WRONG_TYPES) and (unexpected := unexpected_response(error)) is not None:
        return REFUSED, _one_line(str(unexpected))
    return REFUSED, (
        f"unexpected error, please report it: {type(error).__name__}: {_one_line(str(error))} "
        "(HYPERVISOR_DEBUG=1 prints the traceback)"
    )


def field_errors(error: ApiError) -> list[tuple[list[str | int], str]]:
    """The fields that the server refuses, each with its location in the body and the reason."""
    found: Any = error.extra.get("errors")
    if not isinstance(found, list):
        return []
    return [(one["loc"][1:], one["msg"]) for one in found if _is_field_error(one)]


def _is_field_error(one: Any) -> bool:
    return isinstance(one, dict) and isinstance(one.get("loc"), list) and isinstance(one.get("msg"), str)


def _every_field(errors: list[tuple[list[str | int], str]]) -> str:
    """All of them: `detail` has the first one and the number of others."""
    lines = [f"{'.'.join(map(str, path)) or 'the request'}: {reason}" for path, reason in errors]
    return "\nerror: ".join(_one_line(line) for line in lines)


def _system_error(error: OSError) -> str:
    if error.filename is not None:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    if error.errno in _FULL:
        return f"cannot write the output: {error.strerror}"
    return str(error.strerror)


def _usage(error: typer.TyperException) -> str:
    line = _one_line(error.format_message()).rstrip(".").removeprefix("Invalid value: ")
    context = getattr(error, "ctx", None)
    path = getattr(context, "command_path", None)
    return f"{line} (see `{path} --help`)" if path else line


def _refusal(error: ApiError) -> str:
    line = _one_line(error.detail)
    if len(errors := field_errors(error)) > 1:
        return _every_field(errors)
    for term, own in _COMMAND_LINE.items():
        line = line.replace(term, own)
    if error.code == "not_authenticated":
        return "you are not logged in to this server: use `hypervisor login`, or `hypervisor register`"
    if error.code in _SESSION_LOST and os.environ.get("HYPERVISOR_TOKEN"):
        return f"{line} (correct HYPERVISOR_TOKEN, or unset it and log in with `hypervisor login`)"
    if error.code in _SESSION_LOST:
        return f"{line} (log in with `hypervisor login`)"
    request_id = error.extra.get("request_id")
    if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR and request_id:
        return f"{line} (see request {request_id} in the server's log)"
    return line


def _one_line(text: str) -> str:
    return printable(without_controls(" ".join(text.split())))
