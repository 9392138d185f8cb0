"""How much room the disk has, and when too little is left to start anything new."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

MIB = 1024 * 1024
ROOM_TO_RESUME = 1.1
"""Once closed, so many times the limit has to be free again: starts must not flap at the edge."""


def free_bytes(folder: Path) -> int:
    """What is left for this user on the disk of a folder, or of the nearest parent that exists."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return shutil.disk_usage(existing).free


class DiskGuard:
    """Says why nothing new may be started on this machine, while its disk is nearly full.

    `least_mib` of the disk of `folder` are kept free for what runs and for the database; 0 keeps nothing.
    """

    def __init__(self, folder: Path, least_mib: int, *, free: Callable[[Path], int] = free_bytes) -> None:
        self._folder = folder
        self._least = least_mib * MIB
        self._free = free
        self._closed = False

    def obstacle(self) -> str | None:
        """The reason as a sentence that stays the same while it lasts, or None where there is room."""
        if not self._least:
            return None
        wanted = self._least * ROOM_TO_RESUME if self._closed else self._least
        try:
            self._closed = self._free(self._folder) < wanted
        except OSError:
            # A disk that cannot be asked is for the runtime to report; it is not known to be full.
            self._closed = False
        if not self._closed:
            return None
        return (
            f"the disk of {self._folder} has less than {self._least // MIB} MiB left, so nothing new is "
            "started there; what runs goes on"
        )
