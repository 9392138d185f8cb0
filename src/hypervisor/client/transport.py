"""One connection pool to one server: problems become ApiError, an expired access token is renewed once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

import httpx2

from hypervisor.client.errors import ApiError, ClientError, Unreachable
from hypervisor.client.tokens import Tokens, TokenStore

API = "/api/v1"
TIMEOUT = httpx2.Timeout(30.0, connect=5.0)
STREAM_TIMEOUT = httpx2.Timeout(5.0, read=None)
"""Streams may be silent for long: only connecting is bounded."""

Params = Mapping[str, str | int | bool | Sequence[str | int] | None]


class Transport:
    """Sends requests below `/api/v1`. Not for use by several threads at once."""

    def __init__(self, url: str, tokens: TokenStore) -> None:
        self.url = normalise_url(url)
        self.tokens = tokens
        self._http = httpx2.Client(base_url=self.url, timeout=TIMEOUT, follow_redirects=False)

    def close(self) -> None:
        self._http.close()

    def get(self, path: str, params: Params | None = None) -> Any:
        return self.send("GET", path, params=params)

    def post(self, path: str, body: object = None, *, headers: Mapping[str, str] | None = None) -> Any:
        return self.send("POST", path, body=body, headers=headers)

    def patch(self, path: str, body: object, params: Params | None = None) -> Any:
        return self.send("PATCH", path, body=body, params=params)

    def delete(self, path: str, params: Params | None = None) -> bool:
        """True when it is gone, False when that was accepted and something must be stopped first."""
        return self._request("DELETE", path, params=params).status_code != HTTPStatus.ACCEPTED

    def send(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        body: object = None,
        form: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        authorise: bool = True,
    ) -> Any:
        """The parsed JSON answer, its text where it is not JSON, None where there is none.

        Raises ApiError for a refusal, Unreachable when no answer came.
        """
        return _parse(
            self._request(
                method, path, params=params, body=body, form=form, headers=headers, authorise=authorise
            )
        )

    def _request(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        body: object = None,
        form: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        authorise: bool = True,
    ) -> httpx2.Response:

        def attempt() -> httpx2.Response:
            request = self._http.build_request(
                method, f"{API}{path}", params=_clean(params), json=body, data=form, headers=headers
            )
            return self._deliver(request, authorise=authorise)

        response = self._with_renewal(attempt, authorise=authorise)
        _raise_for(response)
        return response

    @contextmanager
    def stream(
        self, path: str, *, params: Params | None = None, headers: Mapping[str, str] | None = None
    ) -> Iterator[httpx2.Response]:
        """An open answer that is read as it comes. Raises as `send` does."""

        def attempt() -> httpx2.Response:
            request = self._http.build_request(
                "GET", f"{API}{path}", params=_clean(params), headers=headers, timeout=STREAM_TIMEOUT
            )
            return self._deliver(request, authorise=True, stream=True)

        response = self._with_renewal(attempt, authorise=True)
        try:
            if response.is_error:
                response.read()
                _raise_for(response)
            with self._reached():
                yield response
        finally:
            response.close()

    def pages(self, path: str, params: Params | None = None) -> Iterator[Any]:
        """Every item of a list, page after page."""
        query = dict(params or {})
        while True:
            page = self.get(path, query)
            yield from page["items"]
            if not page.get("next_cursor"):
                return
            query["cursor"] = page["next_cursor"]

    def _with_renewal(self, attempt: Callable[[], httpx2.Response], *, authorise: bool) -> httpx2.Response:
        used = self.tokens.load() if authorise else None
        response = attempt()
        if response.status_code != 401 or used is None or not self._renew(used):
            return response
        response.close()
        return attempt()

    def _renew(self, used: Tokens) -> bool:
        """Replace tokens that were refused; another user of the store may have done so already."""
        with self.tokens.exclusive():
            current = self.tokens.load()
            if current is not None and current.access != used.access:
                return True
            if current is None or current.refresh is None:
                return False
            request = self._http.build_request(
                "POST", f"{API}/auth/refresh", json={"refresh_token": current.refresh}
            )
            answer = self._deliver(request, authorise=False)
            if answer.is_error:
                if answer.status_code == 401:
                    self.tokens.save(None)
                return False
            self.tokens.save(read_tokens(answer.json()))
            return True

    def _deliver(self, request: httpx2.Request, *, authorise: bool, stream: bool = False) -> httpx2.Response:
        tokens = self.tokens.load() if authorise else None
        if tokens is not None:
            request.headers["Authorization"] = f"Bearer {tokens.access}"
        with self._reached():
            return self._http.send(request, stream=stream)

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except httpx2.TimeoutException:
            raise Unreachable(self.url, "it did not answer in time") from None
        except httpx2.ConnectError:
            raise Unreachable(self.url, "is the server running? start it with `hypervisor serve`") from None
        except httpx2.TransportError as error:
            raise Unreachable(self.url, f"the connection broke ({error or type(error).__name__})") from None


def read_tokens(answer: Mapping[str, Any]) -> Tokens:
    """The tokens of a login or refresh answer."""
    return Tokens(answer["access_token"], answer.get("refresh_token"))


def normalise_url(url: str) -> str:
    """`localhost:8000/` -> `http://localhost:8000`. Raises ClientError for what is no http URL."""
    text = url.strip()
    if "://" not in text:
        text = f"http://{text}"
    try:
        parsed = httpx2.URL(text)
    except httpx2.InvalidURL:
        raise ClientError(f"{url!r} is not a URL") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ClientError(f"{url!r} is not an http:// or https:// URL")
    return text.rstrip("/")


def _clean(params: Params | None) -> dict[str, Any]:
    return {name: value for name, value in (params or {}).items() if value is not None}


def _raise_for(response: httpx2.Response) -> None:
    if response.is_error:
        raise ApiError.from_body(response.status_code, response.text)
    if response.is_redirect:
        raise ApiError(response.status_code, "redirect", "the server answered with a redirect; check the URL")


def _parse(response: httpx2.Response) -> Any:
    if not response.content:
        return None
    if "json" in response.headers.get("content-type", ""):
        return response.json()
    return response.text
