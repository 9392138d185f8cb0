"""Whole bodies of responses, within bounds: another server may send without end, or a byte now and then."""

from __future__ import annotations

from time import monotonic

import httpx2

from hypervisor.client.errors import UnexpectedResponse

MAX_BYTES = 64 * 1024 * 1024
"""Larger than the largest page of a list."""
BODY_SECONDS = 120.0
"""For a whole body. The read timeout of a request bounds only the time between two pieces."""
_CODINGS = {"content-encoding", "content-length", "transfer-encoding"}


def read_body(url: str, response: httpx2.Response) -> httpx2.Response:
    """The open response with its whole body; closes the connection where a bound ends the reading.

    Raises UnexpectedResponse for a larger body, httpx2.ReadTimeout for a slower one.
    """
    try:
        content = _content(url, response)
    finally:
        response.close()
    headers = [(name, value) for name, value in response.headers.multi_items() if name not in _CODINGS]
    return httpx2.Response(response.status_code, headers=headers, content=content, request=response.request)


def _content(url: str, response: httpx2.Response) -> bytes:
    deadline = monotonic() + BODY_SECONDS
    content = bytearray()
    for piece in response.iter_bytes():
        content += piece
        if len(content) > MAX_BYTES:
            raise UnexpectedResponse(url, f"more than {MAX_BYTES // 1024**2} MiB")
        if monotonic() > deadline:
            raise httpx2.ReadTimeout("the body does not end", request=response.request)
    return bytes(content)
