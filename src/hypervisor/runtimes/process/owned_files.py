"""Files that a workload can replace, lock or fill: reads never wait, never follow a link, and end."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import subprocess
from io import FileIO
from pathlib import Path

MOST_BYTES = 64 * 1024
"""The most bytes that are read: what the hypervisor writes is far smaller."""

SHORTAGES = frozenset(
    (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.ESTALE, errno.ENOSPC, errno.EDQUOT)
)
"""Errors that say nothing about the one file."""

_SAFE = os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC


class TooLarge(OSError):
    """The file is larger than anything that the hypervisor writes."""


def open_regular(path: Path) -> FileIO:
    """Open a file to read. Raises OSError, also for anything that is no regular file."""
    file = FileIO(_open(path, os.O_RDONLY), "rb")
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    file.close()
    raise OSError(errno.EINVAL, "not a regular file", str(path))


def read(path: Path) -> str:
    """The content of a file. Raises OSError, as `open_regular` does."""
    with open_regular(path) as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise TooLarge(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
    return content.decode(errors="replace")


def append(path: Path, text: str) -> None:
    """Append to a file. Raises OSError."""
    with os.fdopen(_open(path, os.O_WRONLY | os.O_APPEND), "wb", buffering=0) as file:
        file.write(text.encode())


def unlock(path: Path) -> None:
    """Give the owner back all rights on a file or a directory that is no link."""
    try:
        descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISLNK(mode):
            rights = stat.S_IRWXU if stat.S_ISDIR(mode) else stat.S_IRUSR | stat.S_IWUSR
            Path(f"/proc/self/fd/{descriptor}").chmod(stat.S_IMODE(mode) | rights)
    except OSError:
        return  # of another user
    finally:
        os.close(descriptor)


def move(path: Path, target: Path) -> None:
    """Rename; a directory needs the right to write in itself to get another parent. Raises OSError."""
    try:
        path.rename(target)
    except PermissionError:
        unlock(path.parent)
        unlock(path)
        path.rename(target)


def delete(path: Path) -> None:
    """Delete a file or a tree, without following links. Files of another user may stay."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    with contextlib.suppress(RecursionError):
        shutil.rmtree(path, ignore_errors=True)
    if path.exists():
        _unlock_tree(path)
        # Unlike `rmtree` it has no limit of depth.
        subprocess.run(["rm", "-rf", "--", path], capture_output=True, check=False)  # noqa: S603, S607


def _unlock_tree(path: Path) -> None:
    folders = [path]
    while folders:
        folder = folders.pop()
        unlock(folder)
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            folders += [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]


def _open(path: Path, flags: int) -> int:
    try:
        return os.open(path, flags | _SAFE)
    except PermissionError:
        unlock(path.parent)
        unlock(path)
        return os.open(path, flags | _SAFE)
