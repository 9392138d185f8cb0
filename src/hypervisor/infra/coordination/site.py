"""The site of this process: only processes of the same site see each other's local workloads."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from hypervisor.infra.randomness import random_hex

INIT_PID_NAMESPACE = 0xEFFFFFFC
"""The inode of a machine's first PID namespace (PROC_PID_INIT_INO in the kernel's proc_ns.h)."""
_FILE = "site"


def site_of(data_dir: Path, machine_name: str | None = None) -> str:
    """The name of this site, "<machine>/<id of the data folder>"; `machine_name` replaces the machine id.

    Two machines that share a data folder are two sites, and so are two folders on one machine. Raises OSError
    when the folder cannot be written.
    """
    return f"{machine_name or machine_id()}/{_folder_id(data_dir)}"


def machine_id() -> str:
    """The id of the machine; in a container its host name, because it sees only its own processes."""
    try:
        if Path("/proc/self/ns/pid").stat().st_ino == INIT_PID_NAMESPACE:
            return Path("/etc/machine-id").read_text().strip() or socket.gethostname()
    except OSError:
        return socket.gethostname()
    return socket.gethostname()


def _folder_id(data_dir: Path) -> str:
    """A random id, written into the folder once. If two processes write, the first one wins."""
    path = data_dir / _FILE
    data_dir.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{_FILE}.{os.getpid()}")
    draft.write_text(random_hex(8))
    try:
        os.link(draft, path)
    except FileExistsError:
        return path.read_text().strip()
    finally:
        draft.unlink()
    return path.read_text().strip()
