"""Configuration, secret key, data folder and disk: what can be seen without asking anybody."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from hypervisor.cli.doctor.finding import Finding
from hypervisor.infra.disk import MIB, free_bytes
from hypervisor.infra.security.encryption import Encryptor
from hypervisor.infra.security.secret_key import FILE_NAME, KEY_BYTES
from hypervisor.settings import Settings
from hypervisor.store.copies import database_file

CONFIGURATION, KEY, FOLDER, DISK = "configuration", "secret key", "data folder", "disk"
FEW_INODES = 0.02
"""The part of a disk's files that should be left."""


async def configuration(settings: Settings) -> Sequence[Finding]:
    """What the settings say together."""
    return [*_of_roles(settings), *_of_addresses(settings), *_of_env_file()] or [
        Finding(
            CONFIGURATION,
            "ok",
            f"role {settings.role}, listens on {settings.host}:{settings.port}, "
            f"default runtime {settings.default_runtime}",
        )
    ]


async def secret_key(settings: Settings) -> Sequence[Finding]:
    """Whether there is a key, and whether only the server can read it."""
    if settings.secret_key is not None:
        return [Finding(KEY, "ok", f"SECRET_KEY is set (key {key_id(settings)})")]
    path = settings.data_dir / FILE_NAME
    if not settings.binds_loopback_only:
        told = f"HOST={settings.host} is reachable from other machines, and SECRET_KEY is not set"
        return [Finding(KEY, "problem", told, "set SECRET_KEY: `openssl rand -hex 32` makes one")]
    if not path.exists():
        return [Finding(KEY, "ok", f"none yet: the first start makes one in {path}")]
    key, mode = path.read_bytes().strip(), stat.S_IMODE(path.stat().st_mode)
    if len(key) < KEY_BYTES:
        return [Finding(KEY, "problem", f"{path} is damaged", "restore it from a backup")]
    if mode & 0o077:
        told = f"{path} can be read by others (mode {mode:o})"
        return [Finding(KEY, "warning", told, f"chmod 600 {path}")]
    return [Finding(KEY, "ok", f"kept in {path} (key {Encryptor(key).key_id})")]


async def folder_and_disk(settings: Settings) -> Sequence[Finding]:
    """Whether the server can write where it has to, and how much room is left there."""
    folder = settings.data_dir.absolute()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        told = f"{there} cannot be written by this user (id {os.geteuid()})"
        return [Finding(FOLDER, "problem", told, "run as the server's user, or choose another DATA_DIR")]
    made = "" if there == folder else ", made at the first start"
    disks = {folder: "DATA_DIR"}
    file = database_file(settings.database_url)
    if file is not None and not file.absolute().is_relative_to(folder):
        disks[file.absolute().parent] = "the database"
    found = (_disk(path, of, settings.disk_min_free_mb) for path, of in disks.items())
    return [Finding(FOLDER, "ok", f"{folder}{made}"), *found]


def key_id(settings: Settings) -> str | None:
    """The id of the key that the server would use, None while there is none."""
    path = settings.data_dir / FILE_NAME
    if settings.secret_key is not None:
        return Encryptor(settings.secret_key.get_secret_value().encode()).key_id
    return Encryptor(path.read_bytes().strip()).key_id if path.exists() else None


def _of_roles(settings: Settings) -> Iterator[Finding]:
    if database_file(settings.database_url) is not None and settings.role != "all":
        told = f"ROLE={settings.role} with an embedded database, which one process alone can use"
        yield Finding(CONFIGURATION, "problem", told, "set DATABASE_URL to PostgreSQL, or leave ROLE out")


def _of_addresses(settings: Settings) -> Iterator[Finding]:
    if settings.reports_url is None:
        told = "PUBLIC_URL is not set: workloads of this scheduler are not told where to report checkpoints"
        yield Finding(CONFIGURATION, "warning", told, "set PUBLIC_URL to where workloads reach the API")
        return
    if not settings.binds_loopback_only and settings.public_url is None:
        told = f"PUBLIC_URL is not set: workloads are told to report to {settings.reachable_url}"
        yield Finding(CONFIGURATION, "warning", told, "set PUBLIC_URL to where workloads reach this server")


def _of_env_file() -> Iterator[Finding]:
    path = Path(".env")
    if path.is_file() and stat.S_IMODE(path.stat().st_mode) & 0o077 and b"SECRET_KEY=" in path.read_bytes():
        told = f"{path.absolute()} can be read by others"
        yield Finding(CONFIGURATION, "warning", told, f"chmod 600 {path}")


def _disk(folder: Path, of: str, least_mib: int) -> Finding:
    free = free_bytes(folder) // MIB
    seen = os.statvfs(next(path for path in (folder, *folder.parents) if path.exists()))
    told = f"{free} MiB are free for {of} ({folder})"
    if free < least_mib:
        why = f"{told}; DISK_MIN_FREE_MB={least_mib}, so no new process is started"
        return Finding(DISK, "problem", why, "free room there; what waits then starts by itself")
    if seen.f_files and seen.f_favail < FEW_INODES * seen.f_files:
        why = f"{told}, but only {seen.f_favail} more files can be made"
        return Finding(DISK, "warning", why, "delete files there, or make a file system with more inodes")
    if free < 4 * least_mib:
        return Finding(DISK, "warning", told, f"below {least_mib} MiB no new process is started: free room")
    return Finding(DISK, "ok", told)
