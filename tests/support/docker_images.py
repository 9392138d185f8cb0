"""Images for one test, made on the engine from the test image."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import quote

from tests.support import docker
from tests.support.docker import Api


@contextmanager
def image(api: Api, name: str, **config: object) -> Iterator[str]:
    """The test image with further configuration, such as `StopSignal` or `Healthcheck` of the engine's API.

    It is loaded and not built: builders refuse what other tools write into images.
    """
    reference = f"hv-test/{name}:latest"
    archive = _with_config(api.call("GET", f"/images/{docker.IMAGE}/get")[1], reference, config)
    api.call("POST", "/images/load", archive, content_type="application/x-tar")
    try:
        yield reference
    finally:
        api.call("DELETE", f"/images/{quote(reference, safe='')}?force=1", accept=(200, 404))


def _with_config(archive: bytes, reference: str, config: Mapping[str, object]) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(archive)) as source:
        files = {one.name: _content(source, one) for one in source.getmembers() if one.isfile()}
    manifest = json.loads(files["manifest.json"])[0]
    description = json.loads(files[manifest["Config"]])
    description["config"] = {**(description.get("config") or {}), **config}
    changed = json.dumps(description).encode()
    digest = f"{hashlib.sha256(changed).hexdigest()}.json"
    new_manifest = [{"Config": digest, "RepoTags": [reference], "Layers": manifest["Layers"]}]
    layers = {layer: files[layer] for layer in manifest["Layers"]}
    return _tar({digest: changed, **layers, "manifest.json": json.dumps(new_manifest).encode()})


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    return b"" if file is None else file.read()


def _tar(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
