"""HTTP requests to one server. Problem documents become ApiError; an expired access token is renewed once."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from itertools import islice
from typing import Any

import httpx2

from hypervisor.client import json_body
from hypervisor.client.bodies import read_body
from hypervisor.client.checkpoint import is_loopback
from hypervisor.client.errors import ApiError, ClientError, UnexpectedResponse, Unreachable
from hypervisor.client.outages import RetryPolicy
from hypervisor.client.proxies import open_http
from hypervisor.client.records import next_cursor, read_response, records
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
        self._http, self._proxy = open_http(self.url, TIMEOUT)

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
        """The JSON object of the response; an empty Record for an empty body.

        Raises ApiError for a refusal, Unreachable when there is no response, and UnexpectedResponse for a
        response that no Hypervisor server sends.
        """
        return read_response(
            self.url,
            self._request(
                method, path, params=params, body=body, form=form, headers=headers, authorise=authorise
            ),
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
            with _encoding_errors():
                request = self._http.build_request(
                    method,
                    f"{API}{path}",
                    params=_without_none(params),
                    content=content,
                    data=form,
                    headers=sent,
                )
            return self._deliver(request, authorise=authorise)

        response = self._with_renewal(attempt, authorise=authorise)
        self._raise_for(response)
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
                with self._network_errors():
                    refusal = read_body(self.url, response)
                self._raise_for(refusal)
            with self._network_errors():
                yield response
        finally:
            response.close()

    def page(self, path: str, params: Params | None = None) -> Any:
        """One page of a list, whose items are objects."""
        page = self.get(path, params)
        records(self.url, page["items"])
        return page

    def pages(self, path: str, params: Params | None = None) -> Iterator[Any]:
        """The items of all pages of a list."""
        query, used = dict(params or {}), set[str]()
        while True:
            page = self.page(path, query)
            yield from page["items"]
            if (cursor := next_cursor(self.url, page)) is None:
                return
            if cursor in used:
                raise UnexpectedResponse(self.url, "the pages of a list repeat")
            used.add(cursor)
            query["cursor"] = cursor

    def first(self, path: str, params: Params | None, limit: int | None) -> list[Any]:
        """The first `limit` items of all pages; all for None."""
        return list(islice(self.pages(path, params), None if limit is None else min(limit, sys.maxsize)))

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
            self._raise_for(response)
            self.tokens.save(read_tokens(self.url, read_response(self.url, response)))
            return True

    def _deliver(self, request: httpx2.Request, *, authorise: bool, stream: bool = False) -> httpx2.Response:
        tokens = self.tokens.load() if authorise else None
        if tokens is not None:
            request.headers["Authorization"] = _authorization(tokens)
        with self._network_errors():
            response = self._http.send(request, stream=True)
            return response if stream else read_body(self.url, response)

    @contextmanager
    def _network_errors(self) -> Iterator[None]:
        """Raise Unreachable for every network error in the block."""
        try:
            yield
        except httpx2.TimeoutException:
            raise self._unreachable("the server did not respond in time") from None
        except httpx2.ConnectError as error:
            raise self._unreachable(self._connect_failure(error)) from None
        except httpx2.ProxyError as error:
            raise self._unreachable(f"the proxy refused the connection ({error})") from None
        except (httpx2.TransportError, httpx2.DecodingError, httpx2.SSEError) as error:
            raise self._unreachable(f"the connection broke ({error or type(error).__name__})") from None
        except UnicodeError:
            # The IDNA codec, for a host name with an empty label or a label that is too long.
            raise ClientError(f"{self.url!r} does not have a valid host name") from None

    def _connect_failure(self, error: httpx2.ConnectError) -> str:
        if self._proxy is not None:
            return f"the proxy does not respond, or cannot connect ({error})"
        if is_loopback(self._http.base_url.netloc.decode("ascii")) and not _is_tls_failure(error):
            return "is the server running? start it with `hypervisor serve`"
        return f"{error or 'the connection failed'}"

    def _unreachable(self, cause: str) -> Unreachable:
        return Unreachable(self.url, cause, proxy=self._proxy)

    def _raise_for(self, response: httpx2.Response) -> None:
        """Raise ApiError for every status except 2xx."""
        status = response.status_code
        if response.has_redirect_location:
            raise ApiError(status, "redirect", "the server sent a redirect; check the server URL")
        if not response.is_success:
            retry_after = response.headers.get("Retry-After")
            # Not `response.text`: it decodes with the server's charset, which may be any codec of Python.
            body = response.content.decode(errors="replace")
            raise ApiError.from_body(status, body, retry_after, proxy=self._proxy)


def read_tokens(url: str, response: Mapping[str, Any]) -> Tokens:
    """The tokens in the response of a login or a refresh.

    Raises UnexpectedResponse for a token that cannot be sent: it must not get into a token store.
    """
    access, refresh = response["access_token"], response.get("refresh_token")
    if not _can_be_sent(access) or not (refresh is None or _can_be_sent(refresh)):
        raise UnexpectedResponse(url, "a token is not a text of visible ASCII characters")
    return Tokens(access, refresh)


def normalise_url(url: str) -> str:
    """`localhost:8000/` becomes `http://localhost:8000`.

    Raises ClientError for any other URL scheme, and for a URL with a query, a fragment or a user.
    """
    text = url.strip()
    if "://" not in text:
        text = f"http://{text}"
    try:
        parsed = httpx2.URL(text)
    except (httpx2.InvalidURL, UnicodeError):
        raise ClientError(f"{url!r} is not a URL") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ClientError(f"{url!r} is not an http:// or https:// URL")
    if parsed.userinfo or "?" in text or "#" in text or any(map(str.isspace, text)):
        # Not the URL, which may have a password.
        raise ClientError(
            "the server URL has a user, a query, a fragment or a blank: write http://HOST:PORT or "
            "https://HOST/PATH"
        )
    return text.rstrip("/")


@contextmanager
def _encoding_errors() -> Iterator[None]:
    """Raise ClientError for a parameter or a form that UTF-8 cannot encode."""
    try:
        yield
    except UnicodeEncodeError as error:
        character = json_body.surrogate_in(error.object)
        raise ClientError(f"the request contains {character}, which is not valid UTF-8") from None


def _authorization(tokens: Tokens) -> str:
    """The header of a request. Raises ClientError for a token that cannot be in a header."""
    access = tokens.access
    if not _can_be_sent(access):
        raise ClientError(
            "the access token is empty or contains a blank, a line break or a character outside ASCII: "
            "correct it (HYPERVISOR_TOKEN, if it is set), or log in again"
        )
    return f"Bearer {access}"


def _can_be_sent(token: object) -> bool:
    return isinstance(token, str) and token != "" and all("!" <= character <= "~" for character in token)


def _is_tls_failure(error: httpx2.ConnectError) -> bool:
    return "SSL" in str(error)


def _without_none(params: Params | None) -> dict[str, Any]:
    return {name: value for name, value in (params or {}).items() if value is not None}
