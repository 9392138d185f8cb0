"""The backup file: a compressed tar with a manifest (JSON) and the files that it lists, with checksums."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from hypervisor.errors import StartupError

FORMAT = 1
MANIFEST = "manifest.json"
DATABASE = "hypervisor.db"
KEY = "secret.key"
_NAMES = frozenset({DATABASE, KEY})
_MAX_MANIFEST_BYTES = 1024 * 1024
_CHUNK = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Manifest:
    """The description of an archive. `key_id` identifies the SECRET_KEY that its encrypted values need,
    `revision` its schema.
    """

    created_at: str
    version: str
    revision: str
    install_id: str
    key_id: str
    deployments: int
    format: int = FORMAT
    files: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 in hex by file name."""


def write_archive(path: Path, manifest: Manifest, folder: Path) -> None:
    """Write the manifest and its files from `folder`, atomically.

    Only the owner may read the file, because it may contain the secret key. Raises StartupError if the file
    exists, OSError if it cannot be written.
    """
    if path.exists():
        raise StartupError(f"{path} already exists; choose another file name")
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            with tarfile.open(fileobj=file, mode="w:gz") as archive:
                _add_all(archive, manifest, folder)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def read_archive(path: Path, folder: Path) -> Manifest:
    """Unpack into `folder` and verify every checksum. Raises StartupError if the archive is damaged."""
    try:
        with tarfile.open(path, "r:gz") as archive:
            manifest = _manifest(archive)
            for name, expected in manifest.files.items():
                if _extract(archive, name, folder / name) != expected:
                    raise StartupError(f"{path} is damaged: the checksum of {name} does not match")
    except FileNotFoundError as error:
        raise StartupError(f"there is no file {error.filename}") from None
    except (tarfile.TarError, EOFError, OSError, KeyError, TypeError, ValueError) as error:
        raise StartupError(f"{path} is not a complete backup: {error}") from None
    if DATABASE not in manifest.files:
        raise StartupError(f"{path} is not a complete backup: it contains no database")
    return manifest


def checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _add_all(archive: tarfile.TarFile, manifest: Manifest, folder: Path) -> None:
    text = json.dumps(asdict(manifest), indent=2).encode()
    entry = tarfile.TarInfo(MANIFEST)
    entry.size, entry.mode = len(text), 0o600
    archive.addfile(entry, io.BytesIO(text))
    for name in manifest.files:
        archive.add(folder / name, arcname=name, recursive=False)


def _manifest(archive: tarfile.TarFile) -> Manifest:
    source = archive.extractfile(MANIFEST)
    if source is None:
        raise ValueError("the manifest is not a file")
    data = json.loads(source.read(_MAX_MANIFEST_BYTES))
    if data.get("format") != FORMAT:
        raise StartupError(
            f"the backup has format {data.get('format')}, but this version reads format {FORMAT}; restore it "
            f"with version {data.get('version')}"
        )
    manifest = Manifest(**data)
    if not manifest.files.keys() <= _NAMES:
        raise ValueError("the manifest lists unknown files")
    return manifest


def _extract(archive: tarfile.TarFile, name: str, target: Path) -> str:
    source = archive.extractfile(name)
    if source is None:
        raise ValueError(f"{name} is not a file")
    digest = hashlib.sha256()
    with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        while chunk := source.read(_CHUNK):
            digest.update(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()
