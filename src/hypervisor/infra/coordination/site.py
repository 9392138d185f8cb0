"""Where this process is: what runs here is seen by the processes of the same site only."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from hypervisor.infra.randomness import random_hex

INIT_PID_NAMESPACE = 0xEFFFFFFC
"""The inode of a machine's first PID namespace (PROC_PID_INIT_INO in the kernel's proc_ns.h)."""
_FILE = "site"


def site_of(data_dir: Path, given: str | None = None) -> str:
    """The name of this site: the machine (or container) and its data folder; `given` stands for the machine.

    A data folder on a shared disk makes no site of its own for two machines, nor do two folders on one. May
    raise OSError.
    """
    return f"{given or machine()}/{_folder_id(data_dir)}"


def machine() -> str:
    """The machine's own id; in a container its host name, since only its own processes are seen there."""
    try:
        if Path("/proc/self/ns/pid").stat().st_ino == INIT_PID_NAMESPACE:
            return Path("/etc/machine-id").read_text().strip() or socket.gethostname()
    except OSError:
        return socket.gethostname()
    return socket.gethostname()


def _folder_id(data_dir: Path) -> str:
    """A random word, written into the folder once; of two writers the first one wins."""
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
