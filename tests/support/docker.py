"""A real container engine for tests: found, never started; tests are skipped with a reason without one.

Tests use no registry: the only image, `IMAGE`, is a static busybox imported from this machine.
"""

from __future__ import annotations

import functools
import http.client
import io
import json
import os
import socket
import subprocess
import tarfile
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

IMAGE = "hv-test/busybox:latest"
DEFAULT_ENDPOINT = "unix:///var/run/docker.sock"

_BUSYBOX = (Path("/usr/bin/busybox"), Path("/bin/busybox"))
_SECONDS = 60.0


def endpoint() -> str:
    return os.environ.get("DOCKER_HOST") or DEFAULT_ENDPOINT


@functools.cache
def why_no_docker() -> str | None:
    """Why tests with an engine cannot run here, or None. Imports the image on the first call."""
    try:
        Api(endpoint()).call("GET", "/version")
    except OSError as error:
        return f"no Docker engine: {endpoint()}: {error}; skipped"
    busybox = static_busybox()
    if busybox is None:
        return "no static busybox for the test image (Debian: busybox-static); skipped"
    import_image(Api(endpoint()), busybox)
    return None


def static_busybox() -> Path | None:
    return next((path for path in _BUSYBOX if path.is_file() and _is_static(path)), None)


def import_image(api: Api, busybox: Path) -> None:
    """Create `IMAGE` from a busybox binary, unless it exists."""
    if api.call("GET", f"/images/{IMAGE}/json", accept=(200, 404))[0] == 200:
        return
    repo, _, tag = IMAGE.partition(":")
    path = f"/images/create?fromSrc=-&repo={quote(repo, safe='')}&tag={tag}"
    api.call("POST", path, root_file_system(busybox), content_type="application/x-tar")


def root_file_system(busybox: Path) -> bytes:
    """A tar of /bin with busybox and a link for each of its applets, and an open /tmp."""
    applets = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as root:
        for name, mode in (("bin", 0o755), ("etc", 0o755), ("tmp", 0o1777)):
            root.addfile(_entry(name, tarfile.DIRTYPE, mode))
        program = _entry("bin/busybox", tarfile.REGTYPE, 0o755)
        program.size = busybox.stat().st_size
        root.addfile(program, io.BytesIO(busybox.read_bytes()))
        for applet in applets:
            if applet != "busybox":
                link = _entry(f"bin/{applet}", tarfile.SYMTYPE, 0o777)
                link.linkname = "busybox"
                root.addfile(link)
    return buffer.getvalue()


def clean_up(install: str, api: Api | None = None) -> None:
    """Remove every container and network of an installation, running or not."""
    api = api or Api(endpoint())
    filters = quote(json.dumps({"label": [f"hypervisor.install={install}"]}))
    for container in api.json("GET", f"/containers/json?all=1&filters={filters}"):
        api.call("DELETE", f"/containers/{container['Id']}?force=1&v=1", accept=(204, 404, 409))
    for network in api.json("GET", f"/networks?filters={filters}"):
        api.call("DELETE", f"/networks/{network['Id']}", accept=(204, 404))


def clean_up_all(api: Api) -> None:
    """Remove every container of an engine that only this test uses."""
    for container in api.json("GET", "/containers/json?all=1"):
        api.call("DELETE", f"/containers/{container['Id']}?force=1&v=1", accept=(204, 404, 409))


class Api:
    """A synchronous client of the engine's API, independent of the code under test."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint

    def call(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        content_type: str = "application/json",
        accept: tuple[int, ...] = (200, 201, 204, 304),
    ) -> tuple[int, bytes]:
        """Status and body. Raises OSError when there is no engine, AssertionError for another status."""
        connection = self._connect()
        try:
            connection.request(method, path, body, {"Content-Type": content_type})
            response = connection.getresponse()
            content = response.read()
        except http.client.HTTPException as error:
            raise OSError(f"no HTTP response: {error!r}") from error
        finally:
            connection.close()
        assert response.status in accept, f"{method} {path}: {response.status} {content!r}"
        return response.status, content

    def json(self, method: str, path: str, body: object = None) -> Any:
        content = self.call(method, path, None if body is None else json.dumps(body).encode())[1]
        return json.loads(content) if content else None

    def inspect(self, name: str) -> Any:
        return self.json("GET", f"/containers/{name}/json")

    def _connect(self) -> http.client.HTTPConnection:
        url = urlsplit(self.endpoint)
        if url.scheme == "unix":
            return _UnixConnection(url.path)
        return http.client.HTTPConnection(url.hostname or "", url.port or 2375, timeout=_SECONDS)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(_SECONDS)
        self.sock.connect(self._path)


def _entry(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = kind, mode
    return entry


def _is_static(program: Path) -> bool:
    """Whether the program is static; a dynamic ELF file names its loader (ld-linux, ld-musl) early."""
    with program.open("rb") as file:
        return b"/ld-" not in file.read(4096)
