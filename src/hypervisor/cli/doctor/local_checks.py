"""Checks without a connection: configuration, secret key, data folder and disk."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from hypervisor.addresses import url_host
from hypervisor.cli.core.env_file import misspelt_settings
from hypervisor.cli.doctor.finding import Finding
from hypervisor.control.reconciler.report_urls import ReportUrls
from hypervisor.infra.disk import MIB, free_bytes
from hypervisor.infra.observability.tracing import MISSING_PACKAGES, can_export
from hypervisor.infra.security.encryption import Encryptor
from hypervisor.infra.security.secret_key import FILE_NAME, KEY_BYTES
from hypervisor.kernel.engine_ref import EngineRef
from hypervisor.runtimes.kinds import RUNTIMES
from hypervisor.settings import Settings
from hypervisor.store.copies import database_file

CONFIGURATION, KEY, FOLDER, DISK = "configuration", "secret key", "data folder", "disk"
MIN_FREE_INODES = 0.02
"""The share of a disk's inodes that should be free."""


async def configuration(settings: Settings) -> Sequence[Finding]:
    """Contradictions between the settings, and the mode of the .env file."""
    findings = (
        _role_findings(settings),
        _address_findings(settings),
        _trace_findings(settings),
        _env_file_findings(),
        _name_findings(),
    )
    return [finding for group in findings for finding in group] or [
        Finding(
            CONFIGURATION,
            "ok",
            f"role {settings.role}, listens on {url_host(settings.host)}:{settings.port}, "
            f"default runtime {settings.default_runtime}",
        )
    ]


async def secret_key(settings: Settings) -> Sequence[Finding]:
    """Whether the key exists, and whether only the server can read it."""
    if settings.secret_key is not None:
        key_id = Encryptor(settings.secret_key.get_secret_value().encode()).key_id
        return [Finding(KEY, "ok", f"SECRET_KEY is set (key {key_id})")]
    path = settings.data_dir / FILE_NAME
    if not settings.binds_loopback_only:
        detail = f"HOST={settings.host} is reachable from other machines, and SECRET_KEY is not set"
        return [Finding(KEY, "problem", detail, "set SECRET_KEY: `openssl rand -hex 32` generates a key")]
    if not path.exists():
        return [Finding(KEY, "ok", f"no key yet: the first start generates one in {path}")]
    key, mode = path.read_bytes().strip(), stat.S_IMODE(path.stat().st_mode)
    if len(key) < KEY_BYTES:
        return [Finding(KEY, "problem", f"{path} is damaged", "restore it from a backup")]
    if mode & 0o077:
        detail = f"other users can read {path} (mode {mode:o})"
        return [Finding(KEY, "warning", detail, f"chmod 600 {path}")]
    return [Finding(KEY, "ok", f"stored in {path} (key {Encryptor(key).key_id})")]


async def folder_and_disk(settings: Settings) -> Sequence[Finding]:
    """Whether the server can write to its folders, and how much disk space is free there."""
    folder = settings.data_dir.absolute()
    existing = _existing(folder)
    if not (existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)):
        detail = f"this user (id {os.geteuid()}) cannot write to {existing}"
        return [Finding(FOLDER, "problem", detail, "run as the server's user, or set another DATA_DIR")]
    note = "" if existing == folder else ", created at the first start"
    purposes = {folder: "DATA_DIR"}
    file = database_file(settings.database_url)
    if file is not None and not file.absolute().is_relative_to(folder):
        purposes[file.absolute().parent] = "the database"
    disks = (_disk(path, purpose, settings.disk_min_free_mb) for path, purpose in purposes.items())
    return [Finding(FOLDER, "ok", f"{folder}{note}"), *disks]


def configured_encryptor(settings: Settings) -> Encryptor | None:
    """The encryption with the server's key; None without a key."""
    path = settings.data_dir / FILE_NAME
    if settings.secret_key is not None:
        return Encryptor(settings.secret_key.get_secret_value().encode())
    return Encryptor(path.read_bytes().strip()) if path.exists() else None


def _role_findings(settings: Settings) -> Iterator[Finding]:
    if database_file(settings.database_url) is not None and settings.role != "all":
        detail = f"ROLE={settings.role} with an embedded database, which only one process can use"
        yield Finding(CONFIGURATION, "problem", detail, "set DATABASE_URL to PostgreSQL, or unset ROLE")


def _address_findings(settings: Settings) -> Iterator[Finding]:
    """Whether workloads can reach the API, for checkpoint reports."""
    if settings.public_url is not None:
        return
    if settings.role == "scheduler":
        detail = "PUBLIC_URL is not set: workloads of this scheduler cannot report checkpoints"
        advice = "set PUBLIC_URL to the API address that workloads can reach"
        yield Finding(CONFIGURATION, "warning", detail, advice)
    elif not settings.binds_loopback_only:
        urls = [ReportUrls(settings).of(EngineRef(name)) for name in RUNTIMES]
        known = ", ".join(dict.fromkeys(url for url in urls if url is not None))
        detail = f"PUBLIC_URL is not set: workloads report checkpoints to {known}"
        advice = "set PUBLIC_URL to the server address that workloads can reach"
        yield Finding(CONFIGURATION, "warning", detail, advice)


def _trace_findings(settings: Settings) -> Iterator[Finding]:
    if settings.otel_exporter_otlp_endpoint is not None and not can_export():
        yield Finding(CONFIGURATION, "problem", *MISSING_PACKAGES)


def _env_file_findings() -> Iterator[Finding]:
    path = Path(".env")
    if path.is_file() and stat.S_IMODE(path.stat().st_mode) & 0o077 and b"SECRET_KEY=" in path.read_bytes():
        detail = f"other users can read {path.absolute()}"
        yield Finding(CONFIGURATION, "warning", detail, f"chmod 600 {path}")


def _name_findings() -> Iterator[Finding]:
    for found in misspelt_settings():
        detail = f"{found.name} in {found.source} is not a setting and has no effect"
        yield Finding(CONFIGURATION, "warning", detail, f"did you mean {found.nearest}?")


def _disk(folder: Path, purpose: str, min_free_mib: int) -> Finding:
    free = free_bytes(folder) // MIB
    file_system = os.statvfs(_existing(folder))
    detail = f"{free} MiB free for {purpose} ({folder})"
    if free < min_free_mib:
        stopped = f"{detail}, below DISK_MIN_FREE_MB={min_free_mib}: no new process starts"
        return Finding(DISK, "problem", stopped, "free disk space; queued deployments then start again")
    if file_system.f_files and file_system.f_favail < MIN_FREE_INODES * file_system.f_files:
        few = f"{detail}, but only {file_system.f_favail} free inodes"
        return Finding(DISK, "warning", few, "delete files, or create a file system with more inodes")
    if free < 4 * min_free_mib:
        advice = f"free disk space: below {min_free_mib} MiB no new process starts"
        return Finding(DISK, "warning", detail, advice)
    return Finding(DISK, "ok", detail)


def _existing(folder: Path) -> Path:
    """The folder, or its nearest parent that exists."""
    return next(path for path in (folder, *folder.parents) if path.exists())
