"""A TCP proxy with network faults on command: slow, silent, cut, or refusing connections."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit, urlunsplit

CHUNK = 65536


class FaultProxy:
    """Listens on 127.0.0.1 and forwards everything to one address, with the current faults.

    Runs in its own thread, so that the test may block. The faults may be combined.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._flowing = asyncio.Event()
        self._refusing = False
        self._delay = 0.0
        self._thread.start()
        self.port: int = self._do(self._listen())

    def slow_down(self, seconds: float) -> None:
        """Delay every chunk of data in both directions, in seconds."""
        self._delay = seconds

    def go_silent(self) -> None:
        """Forward no data; connections stay open and new ones are accepted (half-open)."""
        self._loop.call_soon_threadsafe(self._flowing.clear)

    def cut(self) -> None:
        """Reset every connection, once."""
        self._do(self._reset())

    def refuse(self) -> None:
        """Reset every connection, and all new ones until `heal`, as if the server were stopped."""
        self._refusing = True
        self.cut()

    def heal(self) -> None:
        """End all faults; data that was held back is forwarded."""
        self._refusing = False
        self._delay = 0.0
        self._loop.call_soon_threadsafe(self._flowing.set)

    def close(self) -> None:
        self._do(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _listen(self) -> int:
        self._flowing.set()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def _stop(self) -> None:
        self._server.close()
        await self._reset()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _reset(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            if not self._refusing:
                await self._join(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # the far end is gone, or the proxy is being closed
        finally:
            writer.transport.abort()
            self._writers.discard(writer)
            self._tasks.discard(task)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(*self._target)
        self._writers.add(far_writer)
        try:
            both = [
                asyncio.create_task(self._pass_on(reader, far_writer)),
                asyncio.create_task(self._pass_on(far_reader, writer)),
            ]
            _, other = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            for task in other:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)
        finally:
            far_writer.transport.abort()
            self._writers.discard(far_writer)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(CHUNK):
                if self._delay:
                    await asyncio.sleep(self._delay)
                await self._flowing.wait()
                writer.write(data)
                await writer.drain()


@contextmanager
def proxied(url: str) -> Iterator[tuple[FaultProxy, str]]:
    """A proxy for the server of a URL, and the URL of the proxy."""
    parts = urlsplit(url)
    proxy = FaultProxy(parts.hostname or "127.0.0.1", parts.port or 5432)
    account = f"{parts.username}@" if parts.username else ""
    if parts.password:
        account = f"{parts.username}:{parts.password}@"
    try:
        yield proxy, urlunsplit(parts._replace(netloc=f"{account}127.0.0.1:{proxy.port}"))
    finally:
        proxy.close()
