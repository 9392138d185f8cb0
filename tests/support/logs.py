"""The output of an instance as lines."""

from __future__ import annotations

from collections.abc import AsyncIterator

from hypervisor.kernel.log_text import LogDecoder, split_lines
from hypervisor.runtimes.protocol import LogChunk, Runtime


async def output_of(runtime: Runtime, name: str, *, tail: int | None = None, follow: bool = False) -> bytes:
    return b"".join([chunk.data async for chunk in runtime.logs(name, tail=tail, follow=follow)])


async def lines_of(
    runtime: Runtime, name: str, *, tail: int | None = None, follow: bool = False
) -> list[str]:
    output = await output_of(runtime, name, tail=tail, follow=follow)
    return split_lines(output.decode(errors="replace"))


async def line_by_line(chunks: AsyncIterator[LogChunk]) -> AsyncIterator[str]:
    """The lines as they arrive, for output of short lines."""
    decoder = LogDecoder()
    async for chunk in chunks:
        for piece in decoder.feed(chunk.data):
            yield piece.removesuffix("\n")
    for piece in decoder.end():
        yield piece.removesuffix("\n")
