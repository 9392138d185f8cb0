"""The files for running it: nothing in them is a guess that the program does not share."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from configparser import ConfigParser
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from hypervisor.kernel.names import InstanceName
from hypervisor.settings import Settings

ROOT = Path(__file__).parents[2]
SOCKET = "/var/run/docker.sock"
NOT_OURS = {"FORWARDED_ALLOW_IPS"}
"""Read by the web server itself."""


def text(path: str) -> str:
    return (ROOT / path).read_text()


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(text("docker-compose.yml"))["services"]
    return found


def roles(services: dict[str, Any]) -> dict[str, str]:
    """The role of each of our servers."""
    commands = {name: service.get("command", []) for name, service in services.items()}
    return {name: command[2] for name, command in commands.items() if command[:2] == ["serve", "--role"]}


def mounts(service: dict[str, Any]) -> list[str]:
    return [str(volume) for volume in service.get("volumes", [])]


def test_there_are_two_of_each_role_and_one_migration_before_them(services: dict[str, Any]) -> None:
    found = roles(services)
    assert sorted(found.values()) == ["api", "api", "scheduler", "scheduler"]
    assert set(found.values()) <= set(get_args(Settings.model_fields["role"].annotation))
    assert services["migrate"]["command"] == ["migrate"]
    for name in found:
        assert services[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}


def test_only_schedulers_and_the_reader_reach_the_engines_socket(services: dict[str, Any]) -> None:
    holders = {name for name, service in services.items() if any(SOCKET in one for one in mounts(service))}
    schedulers = {name for name, role in roles(services).items() if role == "scheduler"}
    assert holders == schedulers | {"docker-reader"}
    reader = text("deploy/caddy/docker-reader.Caddyfile")
    assert "method GET HEAD" in reader
    (allowed,) = re.findall(r"path_regexp (\S+)", reader)
    ours = InstanceName("abcd2345", 1001015, 1, 0)
    for path in (f"/v1.41/containers/{ours}/logs", f"/containers/{ours}/json", "/_ping", "/v1.41/version"):
        assert re.search(allowed, path), path
    for path in (
        "/containers/postgres/json",
        "/containers/postgres/logs",
        f"/containers/{ours}/archive",
        f"/v1.41/containers/{ours}/export",
        f"/containers/{ours}/attach/ws",
        "/images/json",
        "/containers/../secrets/json",
        f"/containers/{ours}/logs/../../../secrets",
        "/containers/../json",
        "/secrets",
    ):
        assert not re.search(allowed, path), path


def test_our_servers_have_no_rights_that_they_do_not_need(services: dict[str, Any]) -> None:
    for name in (*roles(services), "migrate"):
        service = services[name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert "ports" not in service
        assert "privileged" not in service
    dockerfile = text("Dockerfile")
    assert dockerfile.rindex("\nUSER 10001:10001") > dockerfile.rindex("\nFROM ")
    assert "/healthz" in dockerfile.split("HEALTHCHECK")[1]


def test_the_base_is_pinned_by_one_digest(services: dict[str, Any]) -> None:
    (base,) = re.findall(r"^ARG BASE=(\S+)$", text("Dockerfile"), re.MULTILINE)
    assert re.fullmatch(r"python:3\.\d+-slim-\w+@sha256:[0-9a-f]{64}", base)
    assert services["api-1"]["build"]["args"]["BASE"] == f"${{BASE:-{base}}}"


def test_the_extras_of_the_image_are_those_that_there_are(services: dict[str, Any]) -> None:
    (extras,) = re.findall(r"^ARG EXTRAS=(\S+)$", text("Dockerfile"), re.MULTILINE)
    assert services["api-1"]["build"]["args"]["EXTRAS"] == f"${{EXTRAS:-{extras}}}"
    there = tomllib.loads(text("pyproject.toml"))["project"]["optional-dependencies"]
    documented = re.findall(r'--build-arg EXTRAS="([^"]+)"', text("Dockerfile") + text("docs/deployment.md"))
    assert len(documented) == 2
    assert set(extras.split()).union(*(one.split() for one in documented)) <= set(there)


def test_what_is_secret_has_no_default_and_is_written_by_new_env() -> None:
    compose = text("docker-compose.yml")
    required = set(re.findall(r"\$\{(\w+):\?", compose))
    assert required == {"SECRET_KEY", "POSTGRES_PASSWORD", "GRAFANA_PASSWORD", "DOCKER_GID"}
    written = set(re.findall(r"^(\w+)=", text("deploy/new-env").split("<<END")[1], re.MULTILINE))
    assert required <= written
    secret = re.compile(r"^\s*\w*(?:PASSWORD|SECRET_KEY)\w*: *(.*)$", re.MULTILINE)
    assert all(value.startswith("${") and ":?" in value for value in secret.findall(compose))


def test_every_variable_is_a_setting(services: dict[str, Any]) -> None:
    known = {name.upper() for name in Settings.model_fields} | NOT_OURS
    for name in (*roles(services), "migrate"):
        assert set(services[name]["environment"]) <= known
    for unit in (ROOT / "deploy/systemd").glob("*.service"):
        assert set(re.findall(r"^Environment=(\w+)=", unit.read_text(), re.MULTILINE)) <= known
    image = re.search(r"^ENV PATH=.*?(?=^USER)", text("Dockerfile"), re.MULTILINE | re.DOTALL)
    assert image is not None
    assert set(re.findall(r"(\w+)=", image[0])) <= known | {"PATH", "PYTHONUNBUFFERED"}


def test_everything_that_is_mounted_is_there(services: dict[str, Any]) -> None:
    own = {
        one.split(":")[0] for service in services.values() for one in mounts(service) if one.startswith(".")
    }
    assert own >= {"./deploy/caddy/Caddyfile", "./deploy/prometheus", "./deploy/grafana/dashboards"}
    assert [path for path in own if not (ROOT / path).exists()] == []


def test_the_proxy_streams_and_asks_replicas_whether_they_can_work(services: dict[str, Any]) -> None:
    proxy = text("deploy/caddy/Caddyfile")
    (upstreams,) = re.findall(r"reverse_proxy (.*) \{", proxy)
    replicas = {name for name, role in roles(services).items() if role == "api"}
    assert {upstream.split(":")[0] for upstream in upstreams.split()} == replicas
    assert "flush_interval -1" in proxy
    assert "health_uri /readyz" in proxy


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_each_alert_fires_when_it_should() -> None:
    rules = ROOT / "deploy/prometheus/alerts.test.yml"
    done = subprocess.run(
        ["promtool", "test", "rules", str(rules)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["hypervisor", "hypervisor-scheduler@"])
def test_a_restart_of_a_unit_spares_its_workloads(name: str) -> None:
    unit = ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string(text(f"deploy/systemd/{name}.service"))
    service = unit["Service"]
    assert service["KillMode"] == "process"
    assert service["OOMPolicy"] == "continue"
    assert "PrivateTmp" not in service
    assert "PrivateDevices" not in service


def test_commands_see_the_settings_that_the_unit_sees() -> None:
    unit = text("deploy/systemd/hypervisor.service")
    helper = text("deploy/systemd/hypervisor-as-service")
    wanted = re.findall(r"^Environment=((?:DATA_DIR|DATABASE_URL)=\S+)$", unit, re.MULTILINE)
    assert re.findall(r"--setenv=(\S+)", helper) == wanted
    for key in ("EnvironmentFile", "WorkingDirectory", "User"):
        (value,) = re.findall(rf"^{key}=(\S+)$", unit, re.MULTILINE)
        assert f"={value}" in helper
