"""A proxy between a client and an engine: counts requests, holds some back, disconnects and reconnects."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from urllib.parse import urlsplit

_REQUEST = re.compile(rb"(?:^|\r\n)(GET|POST|PUT|DELETE|HEAD) (\S+) HTTP/1\.1\r\n")


class EngineProxy:
    """Forwards a Unix socket to the Unix endpoint of an engine."""

    def __init__(self, folder: Path, target: str) -> None:
        self._path = folder / "proxy.sock"
        self._target = urlsplit(target).path
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._held = re.compile(rb"(?!)")
        self._may_pass = asyncio.Event()
        self.requests: list[str] = []

    @property
    def endpoint(self) -> str:
        return f"unix://{self._path}"

    async def mend(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, self._path)

    async def cut(self) -> None:
        """Break every connection and refuse new ones."""
        if self._server is not None:
            self._server.close()
        for writer in list(self._open):
            writer.transport.abort()
        self._path.unlink(missing_ok=True)

    def hold(self, request: bytes) -> None:
        """Hold requests that match this regular expression until `let_pass`, also if their client closes."""
        self._held = re.compile(request)
        self._may_pass.clear()

    def let_pass(self) -> None:
        self._may_pass.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        engine_reader, engine_writer = await asyncio.open_unix_connection(self._target)
        await asyncio.gather(
            self._copy(reader, engine_writer, note=True), self._copy(engine_reader, writer, note=False)
        )

    async def _copy(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, note: bool) -> None:
        self._open.add(sink)
        try:
            while data := await source.read(65536):
                if note:
                    self.requests += [
                        f"{verb.decode()} {path.decode()}" for verb, path in _REQUEST.findall(data)
                    ]
                    if self._held.search(data):
                        await self._may_pass.wait()
                sink.write(data)
                await sink.drain()
        except OSError:
            return
        finally:
            self._open.discard(sink)
            sink.close()
