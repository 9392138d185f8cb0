"""Reads JSON documents, one on each line, as the engine sends events and the progress of pulls."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from typing import Any

import aiohttp


async def documents(body: aiohttp.StreamReader) -> AsyncGenerator[Any, None]:
    """The documents. Raises ValueError for a line that is not JSON.

    A line may have any length: an event has all labels of the image. aiohttp refuses lines above 128 KiB.
    """
    parts: list[bytes] = []
    async for data in body.iter_any():
        *lines, rest = data.split(b"\n")
        for line in lines:
            document = b"".join([*parts, line])
            parts.clear()
            if document.strip():
                yield json.loads(document)
        parts.append(rest)
    if last := b"".join(parts).strip():
        yield json.loads(last)
