"""`hypervisor backup` and `restore`: the embedded database and the secret key in one archive."""

from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from hypervisor import __version__
from hypervisor.cli.core.configuration import load_settings
from hypervisor.cli.core.formatting import ago
from hypervisor.cli.core.session import Session
from hypervisor.errors import StartupError
from hypervisor.infra.security.encryption import Encryptor
from hypervisor.infra.security.secret_key import FILE_NAME
from hypervisor.settings import Settings
from hypervisor.store import archive
from hypervisor.store.archive import Manifest, checksum, read_archive, write_archive
from hypervisor.store.copies import check_copy, copy_database, database_file, skip_ids
from hypervisor.store.file_lock import sole_server
from hypervisor.store.migrations.runner import known_revisions

_DATABASE_SUFFIXES = ("", "-wal", "-shm")


def backup(
    context: typer.Context,
    file: Annotated[
        Path | None,
        typer.Argument(help="Archive to write; default: hypervisor-<time>.tar.gz in this folder."),
    ] = None,
) -> None:
    """Write the embedded database and the generated secret key to one archive. The server may run."""
    session = Session.of(context)
    settings = load_settings()
    source = _embedded(settings, "pg_dump")
    now = datetime.now(UTC)
    target = file or Path(f"hypervisor-{now:%Y%m%d-%H%M%S}.tar.gz")
    with tempfile.TemporaryDirectory(dir=target.absolute().parent, prefix=".hypervisor-backup-") as name:
        folder = Path(name)
        manifest = _collect(settings, source, folder, now)
        write_archive(target, manifest, folder)
    result = {"file": str(target), "bytes": target.stat().st_size, **asdict(manifest)}
    session.show(result, f"{target} has {manifest.deployments} deployments, schema {manifest.revision}.")
    if archive.KEY in manifest.files:
        session.note("The archive contains the secret key: protect it like the server.")
    else:
        session.note("The archive does not contain SECRET_KEY: keep the key, a restore needs it.")


def restore(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="Archive from `hypervisor backup`.")],
    force: Annotated[
        bool, typer.Option("--force", help="Replace an existing database; it is renamed, not deleted.")
    ] = False,
) -> None:
    """Restore an archive to DATABASE_URL and DATA_DIR. Refused while a server uses the database."""
    session = Session.of(context)
    settings = load_settings()
    target = _embedded(settings, "pg_restore")
    with ExitStack() as stack:
        stack.enter_context(sole_server(settings.database_url))
        draft = tempfile.TemporaryDirectory(dir=target.absolute().parent, prefix=".hypervisor-restore-")
        folder = Path(stack.enter_context(draft))
        manifest = _extract_checked(file, folder)
        key = _key_to_write(settings, manifest, folder, force=force)
        if target.exists() and not force:
            raise StartupError(f"{target} exists: replace it with --force (the old file is renamed)")
        skip_ids(folder / archive.DATABASE)
        renamed = _install(folder, target, key)
    _report(session, manifest, target, renamed)


def _embedded(settings: Settings, postgresql_tool: str) -> Path:
    path = database_file(settings.database_url)
    if path is None:
        raise StartupError(
            "this command is for the embedded database only; "
            f"for PostgreSQL use {postgresql_tool}, see docs/backup.md"
        )
    return path


def _collect(settings: Settings, source: Path, folder: Path, now: datetime) -> Manifest:
    contents = copy_database(source, folder / archive.DATABASE)
    secret = _configured_secret(settings)
    if secret is None:
        secret = _generated_secret(settings)
        (folder / archive.KEY).write_bytes(secret)
    names = sorted(path.name for path in folder.iterdir())
    return Manifest(
        created_at=now.isoformat(),
        version=__version__,
        revision=contents.revision,
        install_id=contents.install_id,
        key_id=Encryptor(secret).key_id,
        deployments=contents.deployments,
        files={name: checksum(folder / name) for name in names},
    )


def _extract_checked(file: Path, folder: Path) -> Manifest:
    manifest = read_archive(file, folder)
    contents = check_copy(folder / archive.DATABASE)
    if contents.revision not in known_revisions():
        raise StartupError(
            f"the backup is from version {manifest.version}, newer than this version ({__version__}): "
            "install that version to restore it"
        )
    return manifest


def _key_to_write(
    settings: Settings, manifest: Manifest, folder: Path, *, force: bool
) -> tuple[Path, Path] | None:
    """(source, destination) of the key file, None when the key is already in place.

    Raises StartupError when the keys do not match.
    """
    configured, key_file = _configured_secret(settings), _key_file(settings)
    if configured is not None:
        if Encryptor(configured).key_id == manifest.key_id:
            return None
        raise StartupError(
            "SECRET_KEY is not the key of this backup and cannot decrypt its secrets: set the backup's key"
            + (", or unset SECRET_KEY, because the archive has its key" if _has_key(manifest) else "")
        )
    if key_file.exists() and Encryptor(key_file.read_bytes().strip()).key_id == manifest.key_id:
        return None
    if not _has_key(manifest):
        raise StartupError("the backup was made with SECRET_KEY set: set the same SECRET_KEY to restore it")
    if key_file.exists() and not force:
        raise StartupError(f"{key_file} has another key: replace it with --force (the old file is renamed)")
    return folder / archive.KEY, key_file


def _install(folder: Path, target: Path, key: tuple[Path, Path] | None) -> list[Path]:
    """Move the database and the key into place. Returns the new paths of the files that were there before."""
    suffix = f".before-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    old = [Path(f"{target}{end}") for end in _DATABASE_SUFFIXES]
    renamed = [_rename(path, suffix) for path in (*old, *([key[1]] if key else [])) if path.exists()]
    if key is not None:
        key[1].parent.mkdir(parents=True, exist_ok=True)
        # The key may belong on another file system, so it is copied and then renamed.
        draft = key[1].with_name(f".{FILE_NAME}.{os.getpid()}")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(key[0].read_bytes())
        draft.replace(key[1])
    (folder / archive.DATABASE).replace(target)
    return renamed


def _rename(path: Path, suffix: str) -> Path:
    return path.replace(path.with_name(f"{path.name}{suffix}"))


def _report(session: Session, manifest: Manifest, target: Path, renamed: list[Path]) -> None:
    result = {"database": str(target), "kept": [str(path) for path in renamed], **asdict(manifest)}
    age = ago(manifest.created_at)
    session.show(
        result, f"Restored {target} to its state of {age} ago, with {manifest.deployments} deployments."
    )
    if renamed:
        session.note(f"The old files were renamed: {', '.join(str(path) for path in renamed)}")
    session.note(
        "Next: hypervisor serve. It adopts the workloads of the backup, and ends newer ones "
        "6 to 9 minutes later."
    )


def _has_key(manifest: Manifest) -> bool:
    return archive.KEY in manifest.files


def _configured_secret(settings: Settings) -> bytes | None:
    return None if settings.secret_key is None else settings.secret_key.get_secret_value().encode()


def _generated_secret(settings: Settings) -> bytes:
    try:
        return _key_file(settings).read_bytes().strip()
    except FileNotFoundError as error:
        raise StartupError(
            f"there is no key file {error.filename}: set SECRET_KEY and DATA_DIR as for the server"
        ) from None


def _key_file(settings: Settings) -> Path:
    return settings.data_dir / FILE_NAME
