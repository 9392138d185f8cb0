"""Free disk space, and the guard that blocks new starts when it runs low."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

MIB = 1024 * 1024
RESUME_FACTOR = 1.1
"""A blocked disk is open again at this multiple of the limit, so that starts do not flap."""


def free_bytes(folder: Path) -> int:
    """Bytes that this user may still write on the disk of a folder, or of its nearest existing parent."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return shutil.disk_usage(existing).free


class DiskGuard:
    """Blocks new starts on this machine while the disk of `folder` is nearly full.

    `min_free_mib` stays free for running workloads and the database; 0 disables the guard.
    """

    def __init__(self, folder: Path, min_free_mib: int, *, free: Callable[[Path], int] = free_bytes) -> None:
        self._folder = folder
        self._min_free = min_free_mib * MIB
        self._free = free
        self._blocked = False

    def obstacle(self) -> str | None:
        """Why nothing new may start, or None. The sentence stays the same while the disk is blocked."""
        if not self._min_free:
            return None
        threshold = self._min_free * RESUME_FACTOR if self._blocked else self._min_free
        try:
            self._blocked = self._free(self._folder) < threshold
        except OSError:
            # An unreadable disk is not a full disk. The runtime reports the error.
            self._blocked = False
        if not self._blocked:
            return None
        return (
            f"the disk of {self._folder} has less than {self._min_free // MIB} MiB free, so no new process "
            "starts there; running processes continue"
        )
