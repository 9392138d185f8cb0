"""HTTP requests to one server. Problem documents become ApiError; an expired access token is renewed once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

import httpx2

from hypervisor.client import json_body
from hypervisor.client.errors import ApiError, ClientError, Unreachable
from hypervisor.client.outages import RetryPolicy
from hypervisor.client.tokens import Tokens, TokenStore

API = "/api/v1"
TIMEOUT = httpx2.Timeout(30.0, connect=5.0)
STREAM_TIMEOUT = httpx2.Timeout(5.0, read=60.0)
"""A silent stream has a comment every 15 seconds, so a longer silence is a lost connection."""

Params = Mapping[str, str | int | bool | Sequence[str | int] | None]


class Transport:
    """Sends requests below `/api/v1`. Not safe for several threads at once."""

    def __init__(self, url: str, tokens: TokenStore, retry: RetryPolicy | None = None) -> None:
        self.url = normalise_url(url)
        self.tokens = tokens
        self.retry = retry or RetryPolicy.from_environment()
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
        """True when the resource is deleted, False (202) when deployments must stop first."""
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
        """The response: parsed JSON, else text, None for an empty body.

        Raises ApiError for a refusal and Unreachable when there is no response.
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

        content = None if body is None else json_body.encode(body)
        sent = headers if content is None else {**json_body.HEADERS, **(headers or {})}

        def attempt() -> httpx2.Response:
            request = self._http.build_request(
                method, f"{API}{path}", params=_without_none(params), content=content, data=form, headers=sent
            )
            return self._deliver(request, authorise=authorise)

        response = self._with_renewal(attempt, authorise=authorise)
        _raise_for(response)
        return response

    @contextmanager
    def stream(
        self,
        path: str,
        *,
        params: Params | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: httpx2.Timeout = STREAM_TIMEOUT,
    ) -> Iterator[httpx2.Response]:
        """An open response, for reading while it arrives. Raises like `send`."""

        def attempt() -> httpx2.Response:
            request = self._http.build_request(
                "GET", f"{API}{path}", params=_without_none(params), headers=headers, timeout=timeout
            )
            return self._deliver(request, authorise=True, stream=True)

        response = self._with_renewal(attempt, authorise=True)
        try:
            if not response.is_success:
                response.read()
                _raise_for(response)
            with self._network_errors():
                yield response
        finally:
            response.close()

    def pages(self, path: str, params: Params | None = None) -> Iterator[Any]:
        """The items of all pages of a list."""
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
        if response.status_code != HTTPStatus.UNAUTHORIZED or used is None or not self._renew(used):
            return response
        response.close()
        return attempt()

    def _renew(self, used: Tokens) -> bool:
        """Renew refused tokens, unless another client of the store has already renewed them.

        Returns whether the store has new tokens.
        """
        with self.tokens.exclusive():
            current = self.tokens.load()
            if current is not None and current.access != used.access:
                return True
            if current is None or current.refresh is None:
                return False
            request = self._http.build_request(
                "POST", f"{API}/auth/refresh", json={"refresh_token": current.refresh}
            )
            response = self._deliver(request, authorise=False)
            if response.status_code == HTTPStatus.UNAUTHORIZED:
                self.tokens.save(None)
                return False
            _raise_for(response)
            self.tokens.save(read_tokens(response.json()))
            return True

    def _deliver(self, request: httpx2.Request, *, authorise: bool, stream: bool = False) -> httpx2.Response:
        tokens = self.tokens.load() if authorise else None
        if tokens is not None:
            request.headers["Authorization"] = f"Bearer {tokens.access}"
        with self._network_errors():
            return self._http.send(request, stream=stream)

    @contextmanager
    def _network_errors(self) -> Iterator[None]:
        """Raise Unreachable for every network error in the block."""
        try:
            yield
        except httpx2.TimeoutException:
            raise Unreachable(self.url, "the server did not respond in time") from None
        except httpx2.ConnectError:
            raise Unreachable(self.url, "is the server running? start it with `hypervisor serve`") from None
        except httpx2.TransportError as error:
            raise Unreachable(self.url, f"the connection broke ({error or type(error).__name__})") from None


def read_tokens(response: Mapping[str, Any]) -> Tokens:
    """The tokens in the response of a login or a refresh."""
    return Tokens(response["access_token"], response.get("refresh_token"))


def normalise_url(url: str) -> str:
    """`localhost:8000/` becomes `http://localhost:8000`. Raises ClientError for any other URL scheme."""
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


def _without_none(params: Params | None) -> dict[str, Any]:
    return {name: value for name, value in (params or {}).items() if value is not None}


def _raise_for(response: httpx2.Response) -> None:
    if response.is_error:
        raise ApiError.from_body(response.status_code, response.text, response.headers.get("Retry-After"))
    if response.is_redirect:
        raise ApiError(response.status_code, "redirect", "the server sent a redirect; check the server URL")


def _parse(response: httpx2.Response) -> Any:
    if not response.content:
        return None
    if "json" in response.headers.get("content-type", ""):
        return response.json()
    return response.text
