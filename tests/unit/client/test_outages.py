"""Waiting while the server does not answer: which errors, how long, how often it is reported."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from hypervisor.client import ApiError, Client, ClientError, RetryPolicy, ServerAway, Tokens, Unreachable
from hypervisor.client.deployments import has_ended
from hypervisor.client.outages import Outage, surviving
from tests.unit.client.scripted import Request, Response, scripted

AWAY = Unreachable("http://hv", "the connection broke")
LIMITED = ApiError(429, "too_many_requests", "Too many requests.", retry_after=3)
BUSY = ApiError(503, "database_busy", "The database did not answer.")


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The sleeps of an outage, which pass at once."""
    sleeps: list[float] = []
    now = time.monotonic()
    monkeypatch.setattr("hypervisor.client.outages.sleep", sleeps.append)
    monkeypatch.setattr("hypervisor.client.outages.monotonic", lambda: now + sum(sleeps))
    return sleeps


def failing(*errors: ClientError) -> Callable[[], str]:
    left = list(errors)

    def request() -> str:
        if left:
            raise left.pop(0)
        return "answer"

    return request


def test_an_outage_is_survived_and_reported_once(slept: list[float]) -> None:
    reported: list[ClientError] = []
    outage = Outage(RetryPolicy(60, lambda error, _seconds: reported.append(error)))
    assert surviving(outage, failing(AWAY, BUSY, AWAY)) == "answer"
    assert reported == [AWAY]
    assert surviving(outage, failing(BUSY)) == "answer"
    assert reported == [AWAY, BUSY]
    assert len(slept) == 4


def test_delays_grow_and_end_at_the_bound(slept: list[float]) -> None:
    with pytest.raises(ServerAway, match="gave up after 60 s without the server: cannot reach"):
        surviving(Outage(RetryPolicy(60)), failing(*[AWAY] * 1000))
    assert sum(slept) == pytest.approx(60)
    assert slept[0] <= 0.25 < max(slept) <= 5
    assert len(set(slept)) > len(slept) // 2  # jitter


def test_each_outage_has_the_whole_bound(slept: list[float]) -> None:
    outage = Outage(RetryPolicy(10))
    for _ in range(20):
        surviving(outage, failing(AWAY, AWAY, AWAY, AWAY))
    assert sum(slept) > 20


def test_an_error_after_a_calm_time_begins_another_outage(slept: list[float]) -> None:
    outage = Outage(RetryPolicy(10))
    for _ in range(20):
        outage.survive(AWAY)
        slept.append(31.0)


def test_retry_after_is_honoured(slept: list[float]) -> None:
    surviving(Outage(RetryPolicy(60)), failing(LIMITED))
    assert 3 <= slept[0] < 3.5


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 500])
def test_a_refusal_is_raised_at_once(slept: list[float], status: int) -> None:
    with pytest.raises(ApiError):
        surviving(Outage(RetryPolicy(60)), failing(ApiError(status, "x", "No.")))
    assert slept == []


def test_zero_seconds_survive_nothing(slept: list[float]) -> None:
    with pytest.raises(Unreachable):
        surviving(Outage(RetryPolicy(0)), failing(AWAY))
    assert slept == []


def test_the_environment_sets_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HYPERVISOR_RETRY_SECONDS", raising=False)
    assert RetryPolicy.from_environment().seconds == 300
    monkeypatch.setenv("HYPERVISOR_RETRY_SECONDS", "7.5")
    assert RetryPolicy.from_environment().seconds == 7.5
    for wrong in ("soon", "-1", "inf", "nan"):
        monkeypatch.setenv("HYPERVISOR_RETRY_SECONDS", wrong)
        with pytest.raises(ClientError, match=r"HYPERVISOR_RETRY_SECONDS: .* is not a number of seconds"):
            RetryPolicy.from_environment()


def test_a_wait_survives_busy_answers_and_a_busy_renewal(slept: list[float]) -> None:
    answers = iter(
        [
            Response(503, {"code": "database_busy", "detail": "Busy."}, headers={"Retry-After": "2"}),
            Response(429, {"code": "rate", "detail": "Slow."}, headers={"Retry-After": "4"}),
            Response(200, {"name": "x", "status": "SUCCEEDED"}),
        ]
    )
    with scripted(lambda _request: next(answers)) as server, Client(server.url) as client:
        assert client.deployments.wait(1, has_ended)["status"] == "SUCCEEDED"
    assert 2 <= slept[0] < 2.5
    assert 4 <= slept[1] < 4.5


def test_a_renewal_that_fails_for_now_keeps_the_session(slept: list[float]) -> None:
    refreshes = iter([Response(503, {"code": "stopping", "detail": "Stopping."})])

    def respond(request: Request) -> Response:
        if request.path.endswith("/auth/refresh"):
            return next(refreshes, Response(200, {"access_token": "new", "refresh_token": "r2"}))
        if request.headers.get("Authorization") != "Bearer new":
            return Response(401, {"code": "token_expired", "detail": "Expired."})
        return Response(200, {"name": "x", "status": "SUCCEEDED"})

    with scripted(respond) as server, Client(server.url) as client:
        client.tokens.save(Tokens("old", "r1"))
        assert client.deployments.wait(1, has_ended)["status"] == "SUCCEEDED"
    assert len(slept) == 1


def test_a_timeout_counts_during_an_outage() -> None:
    began = time.monotonic()
    with Client("http://127.0.0.1:9", retry=RetryPolicy(600)) as client, pytest.raises(TimeoutError):
        client.deployments.wait(1, has_ended, timeout=0.4)
    assert 0.4 <= time.monotonic() - began < 300
