"""The content of /metrics, access to it, and that it contains no names."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from hypervisor.api.state_metrics import StateMetrics
from hypervisor.store.database import Database
from hypervisor.store.tables import EngineState
from tests.support.api import Api, Person, ok, refused, running_api
from tests.support.clock import FakeClock
from tests.support.wait import eventually

UNREACHABLE = "postgresql://nobody@127.0.0.1:1/nothing"
Sample = tuple[str, tuple[tuple[str, str], ...]]


async def scrape(api: Api) -> dict[Sample, float]:
    answer = await api.http.get("/metrics")
    assert answer.status_code == 200, answer.text
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def of(name: str, **labels: object) -> Sample:
    return name, tuple(sorted((label, str(value)) for label, value in labels.items()))


async def submit(person: Person, name: str, **fields: object) -> int:
    body = {"name": name, "docker_image": "x", "required_cpu_cores": 2, "required_ram_gb": 1, **fields}
    return int(ok(await person.post("/api/v1/deployments", body), 201)["id"])


async def test_queue_and_capacity_come_from_the_database(api: Api) -> None:
    person = await api.person()
    await person.organization()
    size = {"name": "lab", "total_cpu_cores": 2, "total_ram_gb": 4, "total_gpu_count": 2}
    cluster = ok(await person.post("/api/v1/clusters", size), 201)["id"]
    runs = await submit(person, "runs", required_gpu_count=0.5)

    async def running() -> bool:
        return bool(ok(await person.get(f"/api/v1/deployments/{runs}"))["status"] == "RUNNING")

    await eventually(running)
    await submit(person, "waits")
    api.clock.advance(40)
    scraped = await scrape(api)

    assert scraped[of("hypervisor_database_up")] == 1
    assert scraped[of("hypervisor_deployments", cluster=cluster, state="RUNNING")] == 1
    assert scraped[of("hypervisor_queue_depth", cluster=cluster, priority="MEDIUM")] == 1
    assert scraped[of("hypervisor_queue_depth", cluster=cluster, priority="HIGH")] == 0
    assert scraped[of("hypervisor_queue_head_wait_seconds", cluster=cluster, priority="MEDIUM")] >= 40
    resources = {"cpu": ("core", 2, 2), "memory": ("byte", 4 * 2**30, 2**30), "gpu": ("device", 2, 0.5)}
    for resource, (unit, capacity, allocated) in resources.items():
        labels = {"cluster": cluster, "resource": resource, "unit": unit}
        assert scraped[of("hypervisor_cluster_capacity", **labels)] == capacity
        assert scraped[of("hypervisor_cluster_allocated", **labels)] == allocated
    assert of("hypervisor_servers") in scraped
    assert scraped[of("hypervisor_lease_epoch", lease=f"cluster:{cluster}")] >= 1
    assert scraped[of("hypervisor_queue_wait_seconds_count", cluster=cluster, priority="MEDIUM")] == 1


async def test_cordoned_engines_of_nodes_are_counted_for_the_installation(api: Api) -> None:
    """No server holds its lease, so no server reports it as unreachable."""
    person = await api.person()
    await person.organization()
    ok(await person.post("/api/v1/clusters", {"name": "lab", "total_cpu_cores": 2, "total_ram_gb": 4}), 201)
    assert (await scrape(api))[of("hypervisor_engines_cordoned", runtime="simulated")] == 0
    cordoned = {"runtime": "simulated", "cordoned_since": api.clock.now()}
    async with api.services.database.write() as session:
        session.add(EngineState(name="of-the-node", endpoint=None, **cordoned))
        session.add(EngineState(name="of-no-node-any-more", endpoint="tcp://gone:2376", **cordoned))
    api.clock.advance(6)
    assert (await scrape(api))[of("hypervisor_engines_cordoned", runtime="simulated")] == 1


async def test_requests_are_counted_by_template_and_no_name_is_exposed(sqlite_api: Api) -> None:
    person = await sqlite_api.person("somebody-special")
    organization = await person.organization("Secret Lab")
    size = {"name": "hidden-cluster", "total_cpu_cores": 2, "total_ram_gb": 4}
    ok(await person.post("/api/v1/clusters", size), 201)
    await submit(person, "covert-model")
    await person.get(f"/organizations/{organization}/")
    for path in ("/who/are/you", "/wp-admin", "/admin/nowhere", "/static/nowhere"):
        await person.get(path)
    await person.call("BREW", "/api/v1/organizations")
    scraped = await scrape(sqlite_api)

    def requests(method: str, route: str, status: int) -> float:
        return scraped[of("hypervisor_http_requests_total", method=method, route=route, status=status)]

    assert requests("GET", "/api/v1/organizations/{organization_id}", 200) == 1
    assert requests("GET", "(none)", 404) == 2
    assert requests("GET", "/static", 404) == 1
    assert requests("OTHER", "/api/v1/organizations", 405) == 1
    text = (await sqlite_api.http.get("/metrics")).text
    for name in ("somebody-special", "Secret Lab", "hidden-cluster", "covert-model", "wp-admin", "BREW"):
        assert name not in text


async def test_probes_do_not_use_up_the_rate_limit(sqlite_url: str, tmp_path: Path) -> None:
    async with running_api(sqlite_url, tmp_path / "data", rate_limit="3/minute") as api:
        for path in ("/healthz", "/readyz", "/metrics") * 4:
            assert (await api.http.get(path)).status_code == 200
        answers = [(await api.http.get("/")).status_code for _ in range(4)]
        assert answers == [200, 200, 200, 429]


async def test_metrics_can_be_off_or_need_a_token(sqlite_url: str, tmp_path: Path) -> None:
    async with running_api(sqlite_url, tmp_path / "data", metrics="off") as api:
        refused(await api.http.get("/metrics"), 404, "metrics_off")
    token = "the scraper's own token"
    async with running_api(sqlite_url, tmp_path / "data", metrics_token=token) as api:
        for wrong in (None, "Bearer x", f"Basic {token}"):
            headers = {"Authorization": wrong} if wrong else {}
            refused(await api.http.get("/metrics", headers=headers), 401, "metrics_token_needed")
        right = await api.http.get("/metrics", headers={"Authorization": f"Bearer {token}"})
        assert right.status_code == 200


@pytest.mark.parametrize("accept", ["text/plain", "application/openmetrics-text; version=1.0.0"])
async def test_a_scraper_gets_the_requested_format(sqlite_api: Api, accept: str) -> None:
    answer = await sqlite_api.http.get("/metrics", headers={"Accept": accept})
    assert answer.headers["content-type"].startswith(accept.split(";")[0])
    assert "hypervisor_database_up 1.0" in answer.text


async def test_an_unreachable_database_is_a_metric() -> None:
    database = Database(UNREACHABLE)
    state = StateMetrics(database, FakeClock())
    await state.refresh()
    await database.close()
    assert [(each.name, each.samples[0].value) for each in state.collect()] == [("hypervisor_database_up", 0)]


async def test_several_scrapers_read_the_database_once(sqlite_api: Api) -> None:
    state = sqlite_api.services.state_metrics
    await scrape(sqlite_api)
    first = next(state.collect())
    await scrape(sqlite_api)
    assert next(state.collect()) is first
    sqlite_api.clock.advance(6)
    await scrape(sqlite_api)
    assert next(state.collect()) is not first
