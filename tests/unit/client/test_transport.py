"""Refusals, renewal of tokens, pages: what every call of the SDK relies on."""

from __future__ import annotations

import pytest

from hypervisor.client import ApiError, Client, ClientError, MemoryTokens, Tokens, Unreachable
from hypervisor.client.transport import normalise_url
from tests.support.servers import free_port
from tests.unit.client.scripted import Answer, Request, scripted

STALE = Tokens("stale", "refresh-1")
PAIR = {"access_token": "fresh", "refresh_token": "refresh-2", "token_type": "bearer", "expires_in": 1800}
EXPIRED = Answer(401, {"code": "token_expired", "detail": "The token is over."}, "application/problem+json")


def only_fresh(request: Request) -> Answer:
    if request.path.endswith("/auth/refresh"):
        return Answer(200, PAIR)
    return Answer(200, {"username": "ada"}) if request.token == "fresh" else EXPIRED


def test_an_expired_access_token_is_renewed_once_and_the_call_repeated() -> None:
    tokens = MemoryTokens(STALE)
    with scripted(only_fresh) as server, Client(server.url, tokens=tokens) as client:
        assert client.accounts.me()["username"] == "ada"

    assert [request.path for request in server.seen] == [
        "/api/v1/auth/me",
        "/api/v1/auth/refresh",
        "/api/v1/auth/me",
    ]
    assert '"refresh-1"' in server.seen[1].body
    assert server.seen[1].token is None
    assert tokens.load() == Tokens("fresh", "refresh-2")


def test_what_another_user_of_the_store_has_renewed_is_used_without_a_second_refresh() -> None:
    tokens = MemoryTokens(STALE)

    def answer(request: Request) -> Answer:
        if request.token == "stale":
            # Another process renews while this call is under way: the refresh token is used up by it.
            tokens.save(Tokens("fresh", "refresh-2"))
            return EXPIRED
        return only_fresh(request)

    with scripted(answer) as server, Client(server.url, tokens=tokens) as client:
        client.accounts.me()

    assert not [request for request in server.seen if request.path.endswith("/auth/refresh")]


def test_a_session_that_cannot_be_renewed_is_forgotten_and_the_refusal_told() -> None:
    tokens = MemoryTokens(STALE)
    with (
        scripted(lambda _request: EXPIRED) as server,
        Client(server.url, tokens=tokens) as client,
        pytest.raises(ApiError, match=r"The token is over\.") as refused,
    ):
        client.accounts.me()

    assert refused.value.status == 401
    assert tokens.load() is None
    assert len(server.seen) == 2


def test_a_server_in_trouble_does_not_cost_the_session() -> None:
    tokens = MemoryTokens(STALE)

    def answer(request: Request) -> Answer:
        return Answer(503, "busy", "text/plain") if request.path.endswith("/refresh") else EXPIRED

    with scripted(answer) as server, Client(server.url, tokens=tokens) as client, pytest.raises(ApiError):
        client.accounts.me()

    assert tokens.load() == STALE


def test_a_fixed_token_is_not_renewed() -> None:
    with (
        scripted(only_fresh) as server,
        Client(server.url, tokens=MemoryTokens(Tokens("stale"))) as client,
        pytest.raises(ApiError),
    ):
        client.accounts.me()

    assert len(server.seen) == 1


def test_a_problem_becomes_an_error_with_code_sentence_and_further_members() -> None:
    problem = {
        "type": "about:blank",
        "title": "Conflict",
        "status": 409,
        "code": "shrink_below_allocated",
        "detail": "2 CPU are in use.",
        "shortfall": {"cpu_cores": 2},
    }
    with (
        scripted(lambda _request: Answer(409, problem, "application/problem+json")) as server,
        Client(server.url) as client,
        pytest.raises(ApiError) as refused,
    ):
        client.clusters.update(1, {"total_cpu_cores": 1})

    assert (refused.value.status, refused.value.code) == (409, "shrink_below_allocated")
    assert str(refused.value) == "2 CPU are in use."
    assert refused.value.extra == {"shortfall": {"cpu_cores": 2}}


def test_an_answer_of_a_proxy_becomes_a_general_sentence() -> None:
    with (
        scripted(lambda _request: Answer(502, "<html>Bad Gateway</html>", "text/html")) as server,
        Client(server.url) as client,
        pytest.raises(ApiError, match="the server answered 502 Bad Gateway"),
    ):
        client.accounts.me()


def test_nobody_there_is_told_with_the_way_out() -> None:
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
    with scripted(lambda request: Answer(200, pages[request.path])) as server, Client(server.url) as client:
        assert [each["id"] for each in client.organizations.all()] == [1, 2, 3]


def test_repeated_filters_and_left_out_ones() -> None:
    empty: dict[str, object] = {"items": [], "next_cursor": None}
    with scripted(lambda _request: Answer(200, empty)) as server, Client(server.url) as client:
        client.deployments.page({"state": ["QUEUED", "RUNNING"], "priority": None, "limit": 5})

    assert server.seen[0].path == "/api/v1/deployments?state=QUEUED&state=RUNNING&limit=5"


@pytest.mark.parametrize(("status", "gone"), [(204, True), (202, False)])
def test_a_deletion_tells_whether_it_is_done(status: int, gone: bool) -> None:
    with scripted(lambda _request: Answer(status)) as server, Client(server.url) as client:
        assert client.deployments.delete(1) is gone


def test_a_followed_log_yields_its_lines_and_then_the_final_state() -> None:
    sent = "event: log\ndata: one\n\n: keep-alive\n\nevent: log\ndata: two\n\nevent: end\ndata: SUCCEEDED\n\n"
    with (
        scripted(lambda _request: Answer(200, sent, "text/event-stream")) as server,
        Client(server.url) as client,
    ):
        stream = client.deployments.follow_logs(7, tail=5)
        assert list(stream) == ["one", "two"]

    assert stream.final_state == "SUCCEEDED"
    assert server.seen[0].path == "/api/v1/deployments/7/logs?tail=5&follow=true"


def test_events_are_taken_up_again_where_the_connection_broke(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hypervisor.client.streams.RECONNECT_DELAY", 0.0)

    def answer(request: Request) -> Answer:
        last = int(request.headers.get("Last-Event-ID", "0"))
        sent = "".join(f'id: {n}\nevent: x\ndata: {{"id": {n}}}\n\n' for n in (last + 1, last + 2))
        return Answer(200, sent, "text/event-stream")

    with scripted(answer) as server, Client(server.url) as client:
        events = client.organizations.follow(1, after=4)
        assert [next(events)["id"] for _ in range(5)] == [5, 6, 7, 8, 9]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("localhost:8000", "http://localhost:8000"),
        ("http://127.0.0.1:8000/", "http://127.0.0.1:8000"),
        (" https://hv.example.com ", "https://hv.example.com"),
    ],
)
def test_urls_as_people_type_them(typed: str, meant: str) -> None:
    assert normalise_url(typed) == meant


@pytest.mark.parametrize("typed", ["ftp://example.com", "", "http://"])
def test_what_is_no_server_is_refused(typed: str) -> None:
    with pytest.raises(ClientError, match="is not a"):
        normalise_url(typed)
