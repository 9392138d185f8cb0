"""Shares of a cluster with another organization: offer, acceptance, use, reclaim, withdrawal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.api import Person, ok, refused
from tests.support.teams import Team

CLUSTERS = "/api/v1/clusters"
DEPLOYMENTS = "/api/v1/deployments"
OFFER = "offer_of_cluster_not_found"


@dataclass
class Guests:
    """The other organization. Its admin is the team's outsider."""

    id: int
    admin: Person


@pytest.fixture
async def guests(team: Team) -> Guests:
    (own,) = ok(await team.outsider.get("/api/v1/organizations"))["items"]
    return Guests(own["id"], team.outsider)


async def offered(team: Team, guests: Guests, **terms: Any) -> dict[str, Any]:
    """A cluster of 4 cores, 8 GB and 2 GPUs that is offered to the guests."""
    cluster = await team.cluster()
    body = {"organization_id": guests.id, **terms}
    ok(await team.admin.post(f"{CLUSTERS}/{cluster['id']}/shares", body), 201)
    return cluster


async def shared(team: Team, guests: Guests, **terms: Any) -> dict[str, Any]:
    cluster = await offered(team, guests, **terms)
    ok(await guests.admin.post(f"{CLUSTERS}/{cluster['id']}/shares/{guests.id}/accept"))
    return cluster


async def test_an_offer_is_visible_to_both_sides_and_gives_no_access(team: Team, guests: Guests) -> None:
    cluster = await offered(team, guests, guaranteed={"gpu_count": 1}, limit={"gpu_count": 2}, weight=2.0)
    for person in (team.viewer, guests.admin):
        (share,) = ok(await person.get("/api/v1/cluster-shares"))["items"]
        assert (share["cluster_id"], share["organization_id"]) == (cluster["id"], guests.id)
        assert share["state"] == "offered"
        # Half of the GPUs come with half of the CPU and RAM.
        assert share["guaranteed"] == {"cpu_cores": 2, "ram_gb": 4, "gpu_count": 1}
        assert share["limit"] == {"cpu_cores": None, "ram_gb": None, "gpu_count": 2}
        assert share["weight"] == 2
    refused(await guests.admin.get(f"{CLUSTERS}/{cluster['id']}"), 404, "cluster_not_found")
    body = {"name": "early", "cluster_id": cluster["id"]}
    refused(await guests.admin.post(DEPLOYMENTS, body), 404, "cluster_not_found")


async def test_an_accepted_share_shows_the_cluster_and_accepts_deployments(
    team: Team, guests: Guests
) -> None:
    cluster = await shared(team, guests)
    seen = ok(await guests.admin.get(f"{CLUSTERS}/{cluster['id']}"))
    assert seen["shared"] is True
    assert [one["id"] for one in ok(await guests.admin.get(CLUSTERS))["items"]] == [cluster["id"]]
    assert ok(await team.viewer.get(f"{CLUSTERS}/{cluster['id']}"))["shared"] is False
    created = ok(await guests.admin.post(DEPLOYMENTS, {"name": "guest", "cluster_id": cluster["id"]}), 201)
    assert (created["organization_id"], created["cluster_name"]) == (guests.id, cluster["name"])
    refused(await team.viewer.get(f"{DEPLOYMENTS}/{created['id']}"), 404, "deployment_not_found")
    events = ok(await guests.admin.get(f"{DEPLOYMENTS}/{created['id']}/events"))["items"]
    assert events[0]["to_state"] == "QUEUED"
    await team.schedule(cluster)
    (share,) = ok(await team.viewer.get(f"{CLUSTERS}/{cluster['id']}/shares"))["items"]
    assert share["used"]["cpu_cores"] == 1


async def test_only_admins_offer_and_answer_and_strangers_get_404(team: Team, guests: Guests) -> None:
    cluster = await offered(team, guests)
    path = f"{CLUSTERS}/{cluster['id']}/shares"
    refused(await team.developer.post(path, {"organization_id": guests.id}), 403, "role_too_low")
    refused(await guests.admin.post(path, {"organization_id": team.id}), 404, "cluster_not_found")
    refused(await team.admin.post(f"{path}/{guests.id}/accept"), 404, OFFER)
    stranger = await team.api.person()
    refused(await stranger.post(f"{path}/{guests.id}/accept"), 404, OFFER)
    assert ok(await stranger.get("/api/v1/cluster-shares"))["items"] == []
    refused(await team.admin.post(path, {"organization_id": team.id}), 409, "own_cluster")
    refused(await team.admin.post(path, {"organization_id": guests.id}), 409, "already_shared")


async def test_guarantees_never_exceed_the_cluster(team: Team, guests: Guests) -> None:
    cluster = await team.cluster()
    body = {"organization_id": guests.id, "guaranteed": {"gpu_count": 3}}
    answer = await team.admin.post(f"{CLUSTERS}/{cluster['id']}/shares", body)
    refused(answer, 422, "promises_exceed_cluster")


async def test_a_declined_offer_can_be_repeated(team: Team, guests: Guests) -> None:
    cluster = await offered(team, guests)
    path = f"{CLUSTERS}/{cluster['id']}/shares"
    assert ok(await guests.admin.post(f"{path}/{guests.id}/decline"))["state"] == "declined"
    refused(await guests.admin.post(f"{path}/{guests.id}/accept"), 404, OFFER)
    ok(await team.admin.post(path, {"organization_id": guests.id}), 201)
    assert ok(await guests.admin.post(f"{path}/{guests.id}/accept"))["state"] == "accepted"


async def test_a_limit_makes_deployments_wait_with_the_amounts(team: Team, guests: Guests) -> None:
    cluster = await shared(team, guests, limit={"gpu_count": 1})
    body = {"cluster_id": cluster["id"], "required_gpu_count": 1}
    first = ok(await guests.admin.post(DEPLOYMENTS, {"name": "one", **body}), 201)
    second = ok(await guests.admin.post(DEPLOYMENTS, {"name": "two", **body}), 201)
    await team.schedule(cluster)
    states = [ok(await guests.admin.get(f"{DEPLOYMENTS}/{one['id']}"))["state"] for one in (first, second)]
    assert states == ["STARTING", "QUEUED"]


async def test_work_on_a_withdrawn_share_can_be_preempted(team: Team, guests: Guests) -> None:
    cluster = await shared(team, guests)
    body = {"cluster_id": cluster["id"], "required_cpu_cores": 4, "priority": 1000}
    running = ok(await guests.admin.post(DEPLOYMENTS, {"name": "late", **body}), 201)
    await team.schedule(cluster)
    await team.report(running)
    ok(await team.admin.delete(f"{CLUSTERS}/{cluster['id']}/shares/{guests.id}"), 204)
    refused(await guests.admin.post(DEPLOYMENTS, {"name": "more", **body}), 404, "cluster_not_found")
    refused(await guests.admin.get(f"{CLUSTERS}/{cluster['id']}"), 404, "cluster_not_found")
    await team.submit("own", cluster_id=cluster["id"], priority=1)
    await team.schedule(cluster)
    assert ok(await guests.admin.get(f"{DEPLOYMENTS}/{running['id']}"))["state"] == "STOPPING"


async def test_receipts_hide_names_of_the_other_organization(team: Team, guests: Guests) -> None:
    cluster = await shared(team, guests)
    body = {"name": "their-secret", "cluster_id": cluster["id"], "required_cpu_cores": 4}
    victim = ok(await guests.admin.post(DEPLOYMENTS, body), 201)
    await team.schedule(cluster)
    await team.report(victim)
    preemptor = await team.submit("our-secret", cluster_id=cluster["id"], priority=1)
    await team.schedule(cluster)
    theirs = ok(await guests.admin.get(f"{DEPLOYMENTS}/{victim['id']}/explain"))
    owners = ok(await team.viewer.get(f"{DEPLOYMENTS}/{preemptor['id']}/explain"))
    (lost,), (won,) = theirs["receipts"], owners["receipts"]
    assert lost["rule"].startswith("reclaim")
    assert lost["preemptor"] == {"id": None, "name": "a deployment of another organization", "priority": 1}
    assert lost["victims"][0]["name"] == "their-secret"
    assert won["preemptor"]["name"] == "our-secret"
    assert won["victims"][0]["id"] is None
    events = await guests.admin.get(f"{DEPLOYMENTS}/{victim['id']}/events")
    attempts = await guests.admin.get(f"{DEPLOYMENTS}/{victim['id']}/attempts")
    assert "our-secret" not in events.text
    assert ok(attempts)["items"][0]["preempted_by"] is None
    refusal = await team.admin.delete(f"{CLUSTERS}/{cluster['id']}")
    refused(refusal, 409, "cluster_in_use")
    assert "their-secret" not in refusal.text
