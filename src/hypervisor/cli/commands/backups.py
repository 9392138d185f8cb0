"""backup, restore: the embedded database and the secret key as one file, and back."""

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

_ASIDE = ("", "-wal", "-shm")


def backup(
    context: typer.Context,
    file: Annotated[
        Path | None, typer.Argument(help="The archive to write; else hypervisor-<time>.tar.gz here.")
    ] = None,
) -> None:
    """Write the embedded database and the generated secret key to one file. The server may go on running."""
    session = Session.of(context)
    settings = load_settings()
    source = _embedded(settings, "pg_dump")
    now = datetime.now(UTC)
    target = file or Path(f"hypervisor-{now:%Y%m%d-%H%M%S}.tar.gz")
    with tempfile.TemporaryDirectory(dir=target.absolute().parent, prefix=".hypervisor-backup-") as name:
        folder = Path(name)
        manifest = _collect(settings, source, folder, now)
        write_archive(target, manifest, folder)
    told = {"file": str(target), "bytes": target.stat().st_size, **asdict(manifest)}
    session.show(told, f"{target} holds {manifest.deployments} deployments, schema {manifest.revision}.")
    if archive.KEY in manifest.files:
        session.note("The secret key is in it: keep the file as safe as the server.")
    else:
        session.note("SECRET_KEY was set, so it is not in the file: keep it elsewhere, a restore needs it.")


def restore(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="What `hypervisor backup` has written.")],
    force: Annotated[
        bool, typer.Option("--force", help="Replace a database that is there; it is kept beside it.")
    ] = False,
) -> None:
    """Put a backup where DATABASE_URL and DATA_DIR say. Refused while a server runs there."""
    session = Session.of(context)
    settings = load_settings()
    target = _embedded(settings, "pg_restore")
    with ExitStack() as stack:
        stack.enter_context(sole_server(settings.database_url))
        draft = tempfile.TemporaryDirectory(dir=target.absolute().parent, prefix=".hypervisor-restore-")
        folder = Path(stack.enter_context(draft))
        manifest = _checked(file, folder)
        key = _key_to_write(settings, manifest, folder, force=force)
        if target.exists() and not force:
            raise StartupError(f"{target} exists already: --force replaces it (it is kept beside it)")
        skip_ids(folder / archive.DATABASE)
        kept = _put(folder, target, key)
    _tell(session, manifest, target, kept)


def _embedded(settings: Settings, instead: str) -> Path:
    path = database_file(settings.database_url)
    if path is None:
        raise StartupError(
            f"this is for the embedded database; for PostgreSQL use {instead}, see docs/backup.md"
        )
    return path


def _collect(settings: Settings, source: Path, folder: Path, now: datetime) -> Manifest:
    contents = copy_database(source, folder / archive.DATABASE)
    secret = _given_secret(settings)
    if secret is None:
        secret = _kept_secret(settings)
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


def _checked(file: Path, folder: Path) -> Manifest:
    manifest = read_archive(file, folder)
    contents = check_copy(folder / archive.DATABASE)
    if contents.revision not in known_revisions():
        raise StartupError(
            f"the backup is of version {manifest.version}, newer than this one ({__version__}): install that "
            "version to restore it"
        )
    return manifest


def _key_to_write(
    settings: Settings, manifest: Manifest, folder: Path, *, force: bool
) -> tuple[Path, Path] | None:
    """(from, to) where a key file has to be put in place. Raises StartupError where keys do not match."""
    given, kept = _given_secret(settings), _key_file(settings)
    if given is not None:
        if Encryptor(given).key_id == manifest.key_id:
            return None
        raise StartupError(
            "SECRET_KEY is not the key of this backup, so nothing sealed in it could be opened: set that key"
            + (", or unset SECRET_KEY, since the backup brings its own" if _has_key(manifest) else "")
        )
    if kept.exists() and Encryptor(kept.read_bytes().strip()).key_id == manifest.key_id:
        return None
    if not _has_key(manifest):
        raise StartupError("the backup was made with SECRET_KEY set: set the same SECRET_KEY to restore it")
    if kept.exists() and not force:
        raise StartupError(f"{kept} holds another key: --force replaces it (it is kept beside it)")
    return folder / archive.KEY, kept


def _put(folder: Path, target: Path, key: tuple[Path, Path] | None) -> list[Path]:
    """Move everything into place; what was there before is kept, and where."""
    suffix = f".before-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    old = [Path(f"{target}{end}") for end in _ASIDE]
    kept = [_set_aside(path, suffix) for path in (*old, *([key[1]] if key else [])) if path.exists()]
    if key is not None:
        key[1].parent.mkdir(parents=True, exist_ok=True)
        # Another file system, perhaps: written anew, then moved.
        draft = key[1].with_name(f".{FILE_NAME}.{os.getpid()}")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(key[0].read_bytes())
        draft.replace(key[1])
    (folder / archive.DATABASE).replace(target)
    return kept


def _set_aside(path: Path, suffix: str) -> Path:
    return path.replace(path.with_name(f"{path.name}{suffix}"))


def _tell(session: Session, manifest: Manifest, target: Path, kept: list[Path]) -> None:
    told = {"database": str(target), "kept": [str(path) for path in kept], **asdict(manifest)}
    age = ago(manifest.created_at)
    session.show(told, f"{target} is as it was {age} ago, with {manifest.deployments} deployments.")
    if kept:
        session.note(f"What was there is kept: {', '.join(str(path) for path in kept)}")
    session.note(
        "Next: hypervisor serve. What ran then is found again; what began since is ended after 5 minutes."
    )


def _has_key(manifest: Manifest) -> bool:
    return archive.KEY in manifest.files


def _given_secret(settings: Settings) -> bytes | None:
    return None if settings.secret_key is None else settings.secret_key.get_secret_value().encode()


def _kept_secret(settings: Settings) -> bytes:
    try:
        return _key_file(settings).read_bytes().strip()
    except FileNotFoundError as error:
        raise StartupError(
            f"there is no key at {error.filename}: set SECRET_KEY and DATA_DIR as the server has them"
        ) from None


def _key_file(settings: Settings) -> Path:
    return settings.data_dir / FILE_NAME
