"""Refusals, renewal of tokens, pages, streams."""

from __future__ import annotations

import pytest

from hypervisor.client import (
    ApiError,
    Client,
    ClientError,
    MemoryTokens,
    Tokens,
    UnexpectedResponse,
    Unreachable,
)
from hypervisor.client.deployments import ALL_LINES
from hypervisor.client.transport import normalise_url
from hypervisor.kernel.log_text import MAX_PIECE, events_of
from tests.support.servers import free_port
from tests.unit.client.scripted import Request, Response, scripted

STALE = Tokens("stale", "refresh-1")
PAIR = {"access_token": "fresh", "refresh_token": "refresh-2", "token_type": "bearer", "expires_in": 1800}
WRONG_TOKENS: list[object] = [5, "", [], {}, True, ["x"], "a b", "\ud800"]
EXPIRED = Response(
    401, {"code": "token_expired", "detail": "The token has expired."}, "application/problem+json"
)


def only_fresh(request: Request) -> Response:
    if request.path.endswith("/auth/refresh"):
        return Response(200, PAIR)
    return Response(200, {"username": "ada"}) if request.token == "fresh" else EXPIRED


def test_an_expired_access_token_is_renewed_once_and_the_call_repeated() -> None:
    tokens = MemoryTokens(STALE)
    with scripted(only_fresh) as server, Client(server.url, tokens=tokens) as client:
        assert client.accounts.me()["username"] == "ada"

    assert [request.path for request in server.requests] == [
        "/api/v1/auth/me",
        "/api/v1/auth/refresh",
        "/api/v1/auth/me",
    ]
    assert '"refresh-1"' in server.requests[1].body
    assert server.requests[1].token is None
    assert tokens.load() == Tokens("fresh", "refresh-2")


def test_tokens_renewed_by_another_client_are_used_without_a_second_refresh() -> None:
    tokens = MemoryTokens(STALE)

    def respond(request: Request) -> Response:
        if request.token == "stale":
            # Another process renews the tokens during this call, so the refresh token is used up.
            tokens.save(Tokens("fresh", "refresh-2"))
            return EXPIRED
        return only_fresh(request)

    with scripted(respond) as server, Client(server.url, tokens=tokens) as client:
        client.accounts.me()

    assert not [request for request in server.requests if request.path.endswith("/auth/refresh")]


def test_a_session_that_cannot_be_renewed_is_removed_and_the_refusal_is_raised() -> None:
    tokens = MemoryTokens(STALE)
    with (
        scripted(lambda _request: EXPIRED) as server,
        Client(server.url, tokens=tokens) as client,
        pytest.raises(ApiError, match=r"The token has expired\.") as refused,
    ):
        client.accounts.me()

    assert refused.value.status == 401
    assert tokens.load() is None
    assert len(server.requests) == 2


def test_a_server_error_keeps_the_session() -> None:
    tokens = MemoryTokens(STALE)

    def respond(request: Request) -> Response:
        return Response(503, "busy", "text/plain") if request.path.endswith("/refresh") else EXPIRED

    with scripted(respond) as server, Client(server.url, tokens=tokens) as client, pytest.raises(ApiError):
        client.accounts.me()

    assert tokens.load() == STALE


@pytest.mark.parametrize(
    "wrong",
    [
        *[{"access_token": value} for value in WRONG_TOKENS],
        {"access_token": None},
        *[{"refresh_token": value} for value in WRONG_TOKENS],
    ],
    ids=str,
)
def test_tokens_that_cannot_be_sent_are_not_stored(wrong: dict[str, object]) -> None:
    tokens = MemoryTokens(STALE)

    def respond(request: Request) -> Response:
        return EXPIRED if request.path.endswith("/auth/me") else Response(200, {**PAIR, **wrong})

    with scripted(respond) as server, Client(server.url, tokens=tokens) as client:
        with pytest.raises(UnexpectedResponse):
            client.accounts.login("ada", "secret")
        with pytest.raises(UnexpectedResponse):
            client.accounts.me()

    assert tokens.load() == STALE


@pytest.mark.parametrize(
    "charset", ["idna", "zlib", "undefined", "punycode", "hex", "rot13", "utf-16", "no-such"]
)
def test_a_refusal_in_any_charset_is_a_refusal(charset: str) -> None:
    reply = Response(500, b"\xff\xfexn--", f"text/plain; charset={charset}")
    with (
        scripted(lambda _request: reply) as server,
        Client(server.url) as client,
        pytest.raises(ApiError, match="the server answered 500 Internal Server Error"),
    ):
        client.accounts.me()


def test_a_304_is_not_reported_as_a_redirect() -> None:
    with (
        scripted(lambda _request: Response(304)) as server,
        Client(server.url) as client,
        pytest.raises(ApiError, match="the server answered 304 Not Modified"),
    ):
        client.accounts.me()


def test_a_fixed_token_is_not_renewed() -> None:
    with (
        scripted(only_fresh) as server,
        Client(server.url, tokens=MemoryTokens(Tokens("stale"))) as client,
        pytest.raises(ApiError),
    ):
        client.accounts.me()

    assert len(server.requests) == 1


def test_a_problem_document_becomes_an_error_with_code_detail_and_extra() -> None:
    problem = {
        "type": "about:blank",
        "title": "Conflict",
        "status": 409,
        "code": "shrink_below_allocated",
        "detail": "2 CPU are in use.",
        "shortfall": {"cpu_cores": 2},
    }
    with (
        scripted(lambda _request: Response(409, problem, "application/problem+json")) as server,
        Client(server.url) as client,
        pytest.raises(ApiError) as refused,
    ):
        client.clusters.update(1, {"total_cpu_cores": 1})

    assert (refused.value.status, refused.value.code) == (409, "shrink_below_allocated")
    assert str(refused.value) == "2 CPU are in use."
    assert refused.value.extra == {"shortfall": {"cpu_cores": 2}}


def test_a_response_of_a_proxy_becomes_a_general_sentence() -> None:
    with (
        scripted(lambda _request: Response(502, "<html>Bad Gateway</html>", "text/html")) as server,
        Client(server.url) as client,
        pytest.raises(ApiError, match="the server answered 502 Bad Gateway"),
    ):
        client.accounts.me()


def test_an_unreachable_server_is_reported_with_advice() -> None:
    with (
        Client(f"http://127.0.0.1:{free_port()}") as client,
        pytest.raises(Unreachable, match="is the server running\\? start it with `hypervisor serve`"),
    ):
        client.accounts.me()


def test_lists_are_read_page_after_page() -> None:
    pages = {
        "/api/v1/organizations": {"items": [{"id": 1}, {"id": 2}], "next_cursor": "two"},
        "/api/v1/organizations?cursor=two": {"items": [{"id": 3}], "next_cursor": None},
    }
    with scripted(lambda request: Response(200, pages[request.path])) as server, Client(server.url) as client:
        assert [each["id"] for each in client.organizations.all()] == [1, 2, 3]


def test_repeated_filters_are_sent_and_none_is_left_out() -> None:
    empty: dict[str, object] = {"items": [], "next_cursor": None}
    with scripted(lambda _request: Response(200, empty)) as server, Client(server.url) as client:
        client.deployments.page({"state": ["QUEUED", "RUNNING"], "priority": None, "limit": 5})

    assert server.requests[0].path == "/api/v1/deployments?state=QUEUED&state=RUNNING&limit=5"


@pytest.mark.parametrize(("status", "deleted"), [(204, True), (202, False)])
def test_a_deletion_returns_whether_it_is_done(status: int, deleted: bool) -> None:
    with scripted(lambda _request: Response(status)) as server, Client(server.url) as client:
        assert client.deployments.delete(1) is deleted


def test_a_followed_log_yields_its_lines_and_then_the_final_state() -> None:
    sent = "event: log\ndata: one\n\n: keep-alive\n\nevent: log\ndata: two\n\nevent: end\ndata: SUCCEEDED\n\n"
    with (
        scripted(lambda _request: Response(200, sent, "text/event-stream")) as server,
        Client(server.url) as client,
    ):
        stream = client.deployments.follow_logs(7, tail=5)
        assert list(stream) == ["one", "two"]

    assert stream.final_state == "SUCCEEDED"
    assert server.requests[0].path == "/api/v1/deployments/7/logs?tail=5&follow=true"


def test_a_followed_log_has_whole_lines_of_any_length_and_pieces_as_they_arrive() -> None:
    pieces = ["short\n", "x" * MAX_PIECE, "y" * MAX_PIECE, "z\n", "ep 1\rep 2\n", "\u2028\x85\n", "rest\r"]
    sent = ": ping\n\n".join(events_of([piece]).decode() for piece in pieces) + "event: end\ndata: FAILED\n\n"
    with (
        scripted(lambda _request: Response(200, sent, "text/event-stream")) as server,
        Client(server.url) as client,
    ):
        assert list(client.deployments.follow_logs(7).pieces()) == pieces
        stream = client.deployments.follow_logs(7)
        assert list(stream) == "".join(pieces).split("\n")
    assert stream.final_state == "FAILED"


def test_a_log_is_read_as_text_and_as_bytes() -> None:
    output = b"caf\xc3\xa9\r\n\xff\x00 no newline"
    with (
        scripted(lambda _request: Response(200, output, "text/plain; charset=utf-8")) as server,
        Client(server.url) as client,
    ):
        assert b"".join(client.deployments.log_bytes(7)) == output
        assert server.requests[-1].path == f"/api/v1/deployments/7/logs?tail={ALL_LINES}"
        assert client.deployments.logs(7, tail=2) == "café\r\n\ufffd\x00 no newline"
    assert server.requests[-1].path == "/api/v1/deployments/7/logs?tail=2"


def test_a_very_large_event_is_read() -> None:
    sent = f'id: 1\nevent: x\ndata: {{"id": 1, "message": "{"x" * 3_000_000}"}}\n\n'
    with (
        scripted(lambda _request: Response(200, sent, "text/event-stream")) as server,
        Client(server.url) as client,
    ):
        assert len(next(client.organizations.follow(1))["message"]) == 3_000_000


def test_events_resume_after_the_last_event_of_a_broken_connection() -> None:
    newest = 4

    def respond(request: Request) -> Response:
        nonlocal newest
        newest += 2
        last = int(request.headers.get("Last-Event-ID", "0"))
        sent = "".join(f'id: {n}\nevent: x\ndata: {{"id": {n}}}\n\n' for n in range(last + 1, newest + 1))
        return Response(200, sent, "text/event-stream")

    with scripted(respond) as server, Client(server.url) as client:
        events = client.organizations.follow(1, after=4)
        assert [next(events)["id"] for _ in range(5)] == [5, 6, 7, 8, 9]


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("localhost:8000", "http://localhost:8000"),
        ("http://127.0.0.1:8000/", "http://127.0.0.1:8000"),
        (" https://hv.example.com ", "https://hv.example.com"),
    ],
)
def test_urls_are_normalised(typed: str, expected: str) -> None:
    assert normalise_url(typed) == expected


@pytest.mark.parametrize("typed", ["ftp://example.com", "", "http://"])
def test_other_urls_are_refused(typed: str) -> None:
    with pytest.raises(ClientError, match="is not a"):
        normalise_url(typed)
