"""Forks servers: everything is imported once, so that one can die and be replaced many times in a test.

Reads one JSON object a line, {"env": ..., "folder": ..., "log": ...}, and answers with the pid of the server.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from typing import Any

import hypervisor.app
from hypervisor.cli.main import main as hypervisor_main

_PR_SET_PDEATHSIG = 1


def main() -> None:
    assert hypervisor.app
    # The dead are reaped by the kernel; who started them looks into /proc.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    print("ready", flush=True)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _become_a_server(json.loads(line))
        print(pid, flush=True)


def _become_a_server(order: dict[str, Any]) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(number, target)
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["env"])
    sys.argv = ["hypervisor", "serve"]
    code = 1
    try:
        hypervisor_main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    finally:
        os._exit(code)


if __name__ == "__main__":
    main()
