"""One trace joins the submit request, the scheduler's commit and the start on the engine."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from hypervisor.errors import StartupError
from hypervisor.infra.clock import SystemClock
from hypervisor.infra.observability.tracing import Tracing, open_tracing
from tests.support.api import ok, running_api
from tests.support.collector import collecting
from tests.support.wait import eventually

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


async def test_a_trace_joins_the_request_the_scheduler_and_the_engine(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with collecting() as collector:
        async with running_api(
            sqlite_url, tmp_path / "data", SystemClock(), otel_exporter_otlp_endpoint=f"{collector.url}/"
        ) as api:
            person = await api.person()
            await person.organization()
            size = {"name": "lab", "total_cpu_cores": 1, "total_ram_gb": 1}
            ok(await person.post("/api/v1/clusters", size), 201)
            headers = {
                "Authorization": f"Bearer {person.access_token}",
                "traceparent": f"00-{TRACE}-{CALLER}-01",
            }
            body = {"name": "traced", "docker_image": "x", "kind": "job"}
            answer = await api.http.post("/api/v1/deployments", json=body, headers=headers)
            created = ok(answer, 201)
            await eventually(lambda: collector.named("start"), what="the span of the start")
            await eventually(lambda: collector.named("schedule"), what="the span of the commit")
            await api.http.get("/healthz")
    request = collector.named("POST /api/v1/deployments")
    schedule, start = collector.named("schedule"), collector.named("start")
    assert request is not None
    assert schedule is not None
    assert start is not None
    assert {span.trace_id.hex() for span in (request, schedule, start)} == {TRACE}
    assert request.parent_span_id.hex() == CALLER
    assert schedule.parent_span_id == start.parent_span_id == request.span_id
    assert schedule.end_time_unix_nano > schedule.start_time_unix_nano > 0
    attributes = {each.key: each.value for each in start.attributes}
    assert attributes["deployment.id"].int_value == created["id"]
    assert attributes["runtime"].string_value == "simulated"
    assert collector.services == {"mlops-hypervisor"}
    assert not any("healthz" in span.name for span in collector.spans)


def test_missing_telemetry_packages_are_reported_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "hypervisor.infra.observability.otlp", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(StartupError, match=r"pip install 'mlops-hypervisor\[telemetry\]'"):
        open_tracing("http://127.0.0.1:4318")


def test_without_an_endpoint_no_span_is_recorded() -> None:
    assert open_tracing(None) == Tracing()
    assert not Tracing().tracer.start_span("nothing").is_recording()
