"""Submits: accepted requests, refused requests and their messages."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest
from sqlalchemy import select

from hypervisor.control.reconciler.live_attempts import launch_spec, load_live
from hypervisor.deployments.schemas.requests import DeploymentCreate
from hypervisor.deployments.spec.environment import decrypt_environment
from hypervisor.kernel.resources import Resources
from hypervisor.runtimes.protocol import LaunchSpec
from hypervisor.store.tables import Attempt, Deployment, Event
from tests.support.api import ok, refused
from tests.support.teams import Team

DEPLOYMENTS = "/api/v1/deployments"
BATCH = f"{DEPLOYMENTS}/batch"


async def test_defaults_are_those_of_a_service_in_the_queue(team: Team) -> None:
    cluster = await team.cluster()
    created = await team.submit("web")
    assert (created["cluster_id"], created["cluster_name"]) == (cluster["id"], cluster["name"])
    assert (created["kind"], created["restart_policy"], created["max_retries"]) == (
        "service",
        "on-failure",
        3,
    )
    assert (created["priority"], created["priority_label"]) == (500, "MEDIUM")
    assert (created["status"], created["reason"], created["queue_position"]) == (
        "QUEUED",
        "waits for its turn",
        1,
    )
    assert created["status"] == created["state"]
    assert created["created_by"] == team.developer.id
    job = await team.submit("job", kind="job")
    assert (job["restart_policy"], job["max_retries"], job["queue_position"]) == ("never", 0, 2)


EXAMPLES: dict[str, Any] = {
    "docker_image": "registry.example.com:5000/team/train:1.2",
    "command": ["python", "train.py"],
    "env": {"EPOCHS": "3"},
    "ports": [8080, 9090],
    "working_dir": "/workspace",
    "read_only_root": True,
    "required_cpu_cores": 0.5,
    "required_ram_gb": 1.5,
    "required_gpu_count": 0.5,
    "priority": 750,
    "on_failure": "hold",
    "preemptible": False,
    "min_runtime_seconds": 60,
    "max_runtime_seconds": 3600,
    "grace_period_seconds": 5,
    "restart_policy": "always",
    "max_retries": 7,
    "retry_exit_codes": [1, 137],
    "labels": {"team": "vision"},
    "node_selector": {"zone": "a"},
    "gpu_models": ["A100", "H100"],
    "replicas": 2,
    "replica_placement": "spread",
    "gang_timeout_seconds": 17,
}
"""A value for each field, other than its default."""
LAUNCHED = {
    "image": "registry.example.com:5000/team/train:1.2",
    "command": ("python", "train.py"),
    "ports": (8080, 9090),
    "working_dir": "/workspace",
    "labels": {"team": "vision"},
    "read_only_root": True,
    "resources": Resources(500, 1536, 500),
}
"""Their values in the launch spec."""


def test_the_examples_are_complete() -> None:
    elsewhere = {"organization_id", "cluster_id", "name", "kind", "depends_on", "gpu_model"}
    assert EXAMPLES.keys() == DeploymentCreate.model_fields.keys() - elsewhere
    own = {"instance", "env", "gpu_indices", "gpu_milli"}
    assert LAUNCHED.keys() == {field.name for field in dataclasses.fields(LaunchSpec)} - own


async def test_every_field_of_a_submit_is_stored_and_launched(team: Team) -> None:
    cluster = await team.cluster(gpu_model="A100", labels={"zone": "a"})
    created = await team.submit("all", kind="job", **EXAMPLES)
    assert {field: created[field] for field in EXAMPLES} == EXAMPLES
    assert await team.get(created) == created
    await team.schedule(cluster)
    async with team.api.services.database.read() as session:
        instances = (await session.scalars(select(Attempt.instance))).all()
        live = await load_live(session, instances)
    assert len(live) == 2
    for attempt in live:
        assert {field: getattr(attempt.launch, field) for field in LAUNCHED} == LAUNCHED
        assert launch_spec(attempt, {"EPOCHS": "3"}).env["EPOCHS"] == "3"


async def test_every_field_of_an_update_is_stored(team: Team) -> None:
    await team.cluster(gpu_model="A100", labels={"zone": "a"})
    created = await team.submit("all", kind="job")
    assert [field for field in EXAMPLES if created[field] == EXAMPLES[field]] == []
    for field, value in EXAMPLES.items():
        changed = ok(await team.developer.patch(f"{DEPLOYMENTS}/{created['id']}", {field: value}))
        assert changed[field] == value
    seen = await team.get(created)
    assert {field: seen[field] for field in EXAMPLES} == EXAMPLES


async def test_a_text_runs_in_a_shell_and_responses_tell_the_form(team: Team) -> None:
    cluster = await team.cluster(runtime="process")
    text = 'set -e\necho one && echo "$HOME" | tr a-z A-Z > out.txt\n'
    shell = await team.submit("text", cluster_id=cluster["id"], command=text)
    assert (shell["command"], shell["command_form"]) == (["/bin/sh", "-c", text], "shell")
    path = f"{DEPLOYMENTS}/{shell['id']}"
    argv = ok(await team.developer.patch(path, {"command": ["echo", "a && b"]}))
    assert (argv["command"], argv["command_form"]) == (["echo", "a && b"], "argv")
    again = ok(await team.developer.patch(path, {"command": text}))
    assert (again["command"], again["command_form"]) == (shell["command"], "shell")
    assert await team.get(shell) == again
    plan = {"name": "x", "cluster_id": cluster["id"], "command": text}
    ok(await team.developer.post(f"{DEPLOYMENTS}/plan", plan))


async def test_without_a_command_there_is_no_form(team: Team) -> None:
    await team.cluster()
    assert (await team.submit("x"))["command_form"] is None


async def test_command_and_environment_together_are_limited(team: Team) -> None:
    await team.cluster()
    secrets = {f"S{number}": {"value": "v" * 120_000, "secret": True} for number in range(7)}
    created = await team.submit("x", env=secrets)
    kept = dict.fromkeys(secrets, "***")
    path = f"{DEPLOYMENTS}/{created['id']}"
    fits = ok(await team.developer.patch(path, {"env": {**kept, "A": "v" * 100_000}}))
    more = {**kept, **{f"B{number}": "v" * 100_000 for number in range(3)}}
    for change in ({"env": more}, {"command": ["echo", "x" * 120_000, "y" * 120_000]}):
        problem = refused(await team.developer.patch(path, change), 422, "too_large_to_start")
        assert "bytes together" in problem["detail"]
    assert await team.get(created) == fits


async def test_a_submit_is_an_event(team: Team) -> None:
    await team.cluster()
    created = await team.submit("web")
    assert await team.events(created) == [
        {
            "id": seen_event["id"],
            "organization_id": team.id,
            "cluster_id": created["cluster_id"],
            "deployment_id": created["id"],
            "at": created["created_at"],
            "actor": f"user:{team.developer.id}",
            "type": "deployment.state",
            "from_state": None,
            "to_state": "QUEUED",
            "code": "submitted",
            "message": "submitted; waits for its turn",
            "data": None,
        }
        for seen_event in await team.events(created)
    ]


async def test_secret_values_are_encrypted_and_never_shown(team: Team) -> None:
    await team.cluster()
    env = {"PLAIN": "p", "TOKEN": {"value": "hush-hush", "secret": True}, "OPEN": {"value": "o"}}
    created = await team.submit("web", env=env)
    assert created["env"] == {"PLAIN": "p", "TOKEN": "***", "OPEN": "o"}
    services = team.api.services
    async with services.database.read() as session:
        row = await session.get_one(Deployment, created["id"])
        events = (await session.scalars(select(Event))).all()
    assert "hush-hush" not in str(row.env)
    assert all("hush-hush" not in f"{event.message}{event.data}" for event in events)
    opened = decrypt_environment(row.env or {}, services.encryptor)
    assert opened == {"PLAIN": "p", "TOKEN": "hush-hush", "OPEN": "o"}
    path = f"{DEPLOYMENTS}/{created['id']}"
    kept = ok(await team.developer.patch(path, {"env": {"TOKEN": "***", "NEW": "n"}}))
    assert kept["env"] == {"TOKEN": "***", "NEW": "n"}
    async with services.database.read() as session:
        row = await session.get_one(Deployment, created["id"])
    assert decrypt_environment(row.env or {}, services.encryptor) == {"TOKEN": "hush-hush", "NEW": "n"}


async def test_invalid_requests_are_refused(team: Team) -> None:
    await team.cluster()
    for fields in (
        {"name": ""},
        {"name": "two\nlines"},
        {"docker_image": "--privileged"},
        {"docker_image": "team/UPPER"},
        {"docker_image": "a b"},
        {"command": ["", "x"]},
        {"command": ""},
        {"command": 5},
        {"command": ["echo", 5]},
        {"command": "x" * 131_072},
        {"env": {"1BAD": "x"}},
        {"env": {"A=B": "x"}},
        {"env": {"A": "nul\0"}},
        {"env": {"A": 1.1}},
        {"env": {"A": False}},
        {"env": {"A": None}},
        {"env": {"A": ["x"]}},
        {"env": {"A": "v" * 131_070}},
        {"labels": {"a": False}},
        {"ports": [0]},
        {"ports": [65536]},
        {"ports": [80, 80]},
        {"required_cpu_cores": -1},
        {"required_cpu_cores": 2**53},
        {"required_ram_gb": "4"},
        {"required_gpu_count": 1.5},
        {"required_gpu_count": 0.05},
        {"priority": "URGENT"},
        {"priority": 1001},
        {"priority": True},
        {"kind": "cron"},
        {"replicas": 0},
        {"replicas": 65},
        {"restart_policy": "sometimes"},
        {"retry_exit_codes": [0]},
        {"retry_exit_codes": [256]},
        {"retry_exit_codes": [137], "restart_policy": "never"},
        {"max_runtime_seconds": 0},
        {"labels": {"": "x"}},
        {"labels": {"k" * 64: "x"}},
        {"labels": {f"k{number}": "x" for number in range(65)}},
        {"depends_on": [0]},
        {"state": "RUNNING"},
        {"role": "admin"},
    ):
        answer = await team.developer.post(DEPLOYMENTS, {"name": "x", **fields})
        problem = refused(answer, 422, "invalid_request")
        field = next(iter(fields))
        assert field in problem["detail"] or "NUL" in problem["detail"], problem["detail"]
    assert await team.count_deployments() == 0


async def test_fields_that_a_runtime_needs_are_required(team: Team) -> None:
    docker = await team.cluster(runtime="docker")
    process = await team.cluster(runtime="process")
    body = {"name": "x", "cluster_id": docker["id"], "command": ["true"]}
    refused(await team.developer.post(DEPLOYMENTS, body), 422, "docker_image_required")
    body = {"name": "x", "cluster_id": process["id"]}
    refused(await team.developer.post(DEPLOYMENTS, body), 422, "command_required")
    await team.submit("x", cluster_id=docker["id"], docker_image="python:3.12")
    await team.submit("x", cluster_id=process["id"], command=["true"])


async def test_a_field_that_the_runtime_does_not_honour_is_refused(team: Team) -> None:
    cluster = await team.cluster(runtime="process")
    good = {"name": "x", "cluster_id": cluster["id"], "command": ["true"]}
    bad = {**good, "read_only_root": True}
    sentence = (
        f"The cluster {cluster['name']!r} has the runtime process, which does not honour read_only_root: "
        "leave it out, or use a cluster with the runtime docker."
    )
    for path, body, detail in (
        (DEPLOYMENTS, bad, sentence),
        (f"{DEPLOYMENTS}/plan", bad, sentence),
        (BATCH, {"deployments": [good, bad]}, f"deployments[1] (x): {sentence} No deployment was created."),
    ):
        problem = refused(await team.developer.post(path, body), 422, "field_not_honoured")
        assert problem["detail"] == detail
        assert (problem["fields"], problem["runtime"]) == (["read_only_root"], "process")
    assert await team.count_deployments() == 0
    created = await team.submit(**good, read_only_root=False, docker_image=None)
    path = f"{DEPLOYMENTS}/{created['id']}"
    both = {"read_only_root": True, "docker_image": "python:3.12"}
    problem = refused(await team.developer.patch(path, both), 422, "field_not_honoured")
    assert "does not honour docker_image and read_only_root: leave them out" in problem["detail"]
    assert not (await team.get(created))["read_only_root"]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"docker_image": "alpine"}, ["docker_image"]),
        (
            {"read_only_root": True, "docker_image": "alpine", "command": []},
            ["docker_image", "read_only_root"],
        ),
        ({"docker_image": "alpine", "command": ["true"]}, ["docker_image"]),
    ],
)
async def test_a_field_that_is_not_honoured_is_named_before_a_missing_one(
    team: Team, fields: dict[str, Any], named: list[str]
) -> None:
    cluster = await team.cluster(runtime="process")
    body = {"name": "x", "cluster_id": cluster["id"], **fields}
    for path in (DEPLOYMENTS, f"{DEPLOYMENTS}/plan"):
        problem = refused(await team.developer.post(path, body), 422, "field_not_honoured")
        assert sorted(problem["fields"]) == named


async def test_a_field_that_was_accepted_before_does_not_block_an_update(team: Team) -> None:
    cluster = await team.cluster(runtime="process")
    created = await team.submit("old", cluster_id=cluster["id"], command=["true"])
    async with team.api.services.database.write() as session:
        (await session.get_one(Deployment, created["id"])).read_only_root = True
    path = f"{DEPLOYMENTS}/{created['id']}"
    assert ok(await team.developer.patch(path, {"command": ["false"]}))["command"] == ["false"]
    assert not ok(await team.developer.patch(path, {"read_only_root": False}))["read_only_root"]


async def test_the_simulated_runtime_accepts_what_a_real_one_accepts(team: Team) -> None:
    await team.cluster(runtime="simulated")
    created = await team.submit("x", docker_image="python:3.12", command=["true"], read_only_root=True)
    assert created["read_only_root"]


async def test_a_request_larger_than_every_node_is_refused_with_a_suggestion(team: Team) -> None:
    cluster = await team.cluster(
        nodes=[
            {"name": "small", "cpu_cores": 2, "ram_gb": 4},
            {"name": "large", "cpu_cores": 8, "ram_gb": 16, "gpu_count": 1},
        ]
    )
    # By capacity, not by free amounts: the node is busy.
    await team.running(cluster, "busy", required_cpu_cores=8, required_ram_gb=16)
    fits = await team.submit("fits", required_cpu_cores=8, required_ram_gb=16, required_gpu_count=1)
    assert fits["status"] == "QUEUED"
    answer = await team.developer.post(DEPLOYMENTS, {"name": "huge", "required_cpu_cores": 10})
    problem = refused(answer, 422, "larger_than_every_node")
    assert problem["reason"]["nearest_node"] == "large"
    assert problem["reason"]["shortfall"] == {"cpu_cores": 2, "ram_gb": 0, "gpu_count": 0}
    assert "large" in problem["detail"]
    assert "2 " in problem["detail"]
    answer = await team.developer.post(DEPLOYMENTS, {"name": "huge", "required_gpu_count": 2})
    assert refused(answer, 422, "larger_than_every_node")["reason"]["shortfall"]["gpu_count"] == 1


async def test_selectors_that_match_no_node_are_refused(team: Team) -> None:
    await team.cluster(gpu_model="A100", labels={"zone": "a"})
    answer = await team.developer.post(DEPLOYMENTS, {"name": "x", "node_selector": {"zone": "b"}})
    assert "zone=b" in refused(answer, 422, "node_selector_matches_nothing")["detail"]
    body = {"name": "x", "required_gpu_count": 1, "gpu_model": "H100"}
    problem = refused(await team.developer.post(DEPLOYMENTS, body), 422, "gpu_model_matches_nothing")
    assert "H100" in problem["detail"]
    assert "A100" in problem["detail"]


async def test_unknown_and_foreign_clusters_get_the_same_response(team: Team) -> None:
    own = await team.cluster()
    body = {"name": "theirs", "total_cpu_cores": 1, "total_ram_gb": 1}
    foreign = ok(await team.outsider.post("/api/v1/clusters", body), 201)
    details = set()
    for extra in ({}, {"organization_id": team.id}):
        for cluster_id in (foreign["id"], 999_999):
            answer = await team.developer.post(DEPLOYMENTS, {"name": "x", "cluster_id": cluster_id, **extra})
            problem = refused(answer, 404, "cluster_not_found")
            details.add(problem["detail"].replace(str(cluster_id), "N"))
    assert len(details) == 1
    answer = await team.developer.post(DEPLOYMENTS, {"name": "x", "cluster_id": 2**40})
    refused(answer, 422, "invalid_request")
    assert (await team.submit("x"))["cluster_id"] == own["id"]


async def test_the_organization_is_optional_where_it_is_unambiguous(team: Team) -> None:
    cluster = await team.cluster()
    second = await team.developer.organization("Second")
    answer = await team.developer.post(DEPLOYMENTS, {"name": "x"})
    assert "Second" in refused(answer, 422, "organization_id_required")["detail"]
    assert (await team.submit("x", cluster_id=cluster["id"]))["organization_id"] == team.id
    answer = await team.developer.post(DEPLOYMENTS, {"name": "x", "organization_id": second})
    refused(answer, 422, "no_cluster")
    other = await team.cluster()
    answer = await team.developer.post(DEPLOYMENTS, {"name": "x", "organization_id": team.id})
    assert str(other["id"]) in refused(answer, 422, "cluster_id_required")["detail"]


async def test_viewers_read_and_developers_write(team: Team) -> None:
    cluster = await team.cluster()
    created = await team.submit("web")
    path = f"{DEPLOYMENTS}/{created['id']}"
    body = {"name": "x", "cluster_id": cluster["id"]}
    for call in (
        team.viewer.post(DEPLOYMENTS, body),
        team.viewer.post(BATCH, {"deployments": [body]}),
        team.viewer.patch(path, {"priority": "HIGH"}),
        team.viewer.delete(path),
        team.viewer.post(f"{path}/start"),
        team.viewer.post(f"{path}/stop"),
        team.viewer.post(f"{path}/cancel"),
    ):
        refused(await call, 403, "role_too_low")
    for below in ("", "/events", "/attempts", "/explain", "/logs"):
        assert (await team.viewer.get(path + below)).status_code == 200
        refused(await team.outsider.get(path + below), 404, "deployment_not_found")
        assert (await team.api.http.get(path + below)).status_code == 401
    root = await team.api.superuser()
    assert ok(await root.post(f"{path}/cancel"))["status"] == "CANCELLED"


@pytest.mark.parametrize("count", [20])
async def test_many_concurrent_submits_are_all_accepted(team: Team, count: int) -> None:
    await team.cluster()
    answers = await asyncio.gather(
        *(team.developer.post(DEPLOYMENTS, {"name": f"w{number}"}) for number in range(count))
    )
    ids = {ok(answer, 201)["id"] for answer in answers}
    assert len(ids) == count
    page = ok(await team.viewer.get(f"{DEPLOYMENTS}?limit=100"))
    assert sorted(item["queue_position"] for item in page["items"]) == list(range(1, count + 1))
