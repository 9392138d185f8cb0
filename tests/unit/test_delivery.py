"""Compose, systemd and proxy files: they agree with the program."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from configparser import ConfigParser
from itertools import chain
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from hypervisor.kernel.names import InstanceName
from hypervisor.settings import Settings
from tests.support.documents import blocks, commands

ROOT = Path(__file__).parents[2]
SOCKET = "/var/run/docker.sock"
FOREIGN_VARIABLES = {
    "FORWARDED_ALLOW_IPS",
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_RESOURCE_ATTRIBUTES",
    "OTEL_SERVICE_NAME",
    "OTEL_TRACES_SAMPLER",
    "OTEL_TRACES_SAMPLER_ARG",
}
"""Read by the web server, and by OpenTelemetry."""
SET_BY_COMPOSE = {"DATABASE_URL", "REDIS_URL", "ROLE", "DOCKER_HOST", "HOST", "PORT", "DATA_DIR"}
"""Settings that follow from the services and the image, so `.env` does not change them."""


def text(path: str) -> str:
    return (ROOT / path).read_text()


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    services: dict[str, Any] = yaml.safe_load(text("docker-compose.yml"))["services"]
    return services


def roles(services: dict[str, Any]) -> dict[str, str]:
    """The role of each hypervisor server."""
    commands = {name: service.get("command", []) for name, service in services.items()}
    return {name: command[2] for name, command in commands.items() if command[:2] == ["serve", "--role"]}


def mounts(service: dict[str, Any]) -> list[str]:
    return [str(volume) for volume in service.get("volumes", [])]


def test_there_are_two_servers_of_each_role_and_one_migration_before_them(services: dict[str, Any]) -> None:
    role_by_name = roles(services)
    assert sorted(role_by_name.values()) == ["api", "api", "scheduler", "scheduler"]
    assert set(role_by_name.values()) <= set(get_args(Settings.model_fields["role"].annotation))
    assert services["migrate"]["command"] == ["migrate"]
    for name in role_by_name:
        assert services[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}


def test_only_schedulers_and_the_reader_reach_the_engines_socket(services: dict[str, Any]) -> None:
    holders = {
        name for name, service in services.items() if any(SOCKET in mount for mount in mounts(service))
    }
    schedulers = {name for name, role in roles(services).items() if role == "scheduler"}
    assert holders == schedulers | {"docker-reader"}
    reader = text("deploy/caddy/docker-reader.Caddyfile")
    assert "method GET HEAD" in reader
    (allowed,) = re.findall(r"path_regexp (\S+)", reader)
    name = InstanceName("abcd2345", 1001015, 1, 0)
    for path in (f"/v1.41/containers/{name}/logs", f"/containers/{name}/json", "/_ping", "/v1.41/version"):
        assert re.search(allowed, path), path
    for path in (
        "/containers/postgres/json",
        "/containers/postgres/logs",
        f"/containers/{name}/archive",
        f"/v1.41/containers/{name}/export",
        f"/containers/{name}/attach/ws",
        "/images/json",
        "/containers/../secrets/json",
        f"/containers/{name}/logs/../../../secrets",
        "/containers/../json",
        "/secrets",
    ):
        assert not re.search(allowed, path), path


def test_servers_have_minimal_rights(services: dict[str, Any]) -> None:
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


def test_the_extras_of_the_image_exist(services: dict[str, Any]) -> None:
    (extras,) = re.findall(r"^ARG EXTRAS=(\S+)$", text("Dockerfile"), re.MULTILINE)
    assert services["api-1"]["build"]["args"]["EXTRAS"] == f"${{EXTRAS:-{extras}}}"
    existing = tomllib.loads(text("pyproject.toml"))["project"]["optional-dependencies"]
    documented = re.findall(r'--build-arg EXTRAS="([^"]+)"', text("Dockerfile") + text("docs/deployment.md"))
    assert len(documented) == 2
    assert set(extras.split()).union(*(build.split() for build in documented)) <= set(existing)


def test_secrets_have_no_default_and_are_written_by_new_env() -> None:
    compose = text("docker-compose.yml")
    required = set(re.findall(r"\$\{(\w+):\?", compose))
    assert required == {"SECRET_KEY", "POSTGRES_PASSWORD", "GRAFANA_PASSWORD", "DOCKER_GID"}
    written = set(re.findall(r"^(\w+)=", text("deploy/new-env").split("<<END")[1], re.MULTILINE))
    assert required <= written
    secret = re.compile(r"^\s*\w*(?:PASSWORD|SECRET_KEY)\w*: *(.*)$", re.MULTILINE)
    assert all(value.startswith("${") and ":?" in value for value in secret.findall(compose))


def test_every_variable_is_a_setting(services: dict[str, Any]) -> None:
    known = {name.upper() for name in Settings.model_fields} | FOREIGN_VARIABLES
    for name in (*roles(services), "migrate"):
        assert set(services[name]["environment"]) <= known
    for unit in (ROOT / "deploy/systemd").glob("*.service"):
        assert set(re.findall(r"^Environment=(\w+)=", unit.read_text(), re.MULTILINE)) <= known
    image = re.search(r"^ENV PATH=.*?(?=^USER)", text("Dockerfile"), re.MULTILINE | re.DOTALL)
    assert image is not None
    assert set(re.findall(r"(\w+)=", image[0])) <= known | {"PATH", "PYTHONUNBUFFERED"}


def test_every_setting_reaches_the_containers(services: dict[str, Any]) -> None:
    """A variable without a value comes from `.env`. Each other one can be overridden there."""
    settings = {name.upper() for name in Settings.model_fields} - SET_BY_COMPOSE
    for name in (*roles(services), "migrate"):
        environment = services[name]["environment"]
        assert settings <= environment.keys()
        for setting in settings:
            value = environment[setting]
            assert value is None or value.startswith(f"${{{setting}:"), setting
    (documented,) = re.findall(r"Only these have their value from (.*?)\.\s", _flat("docs/deployment.md"))
    assert set(re.findall(r"`([A-Z_]+)`", documented)) == SET_BY_COMPOSE


def test_prometheus_scrapes_with_the_token_of_the_servers(services: dict[str, Any]) -> None:
    prometheus = services["prometheus"]
    assert prometheus["environment"] == {"METRICS_TOKEN": None}
    assert prometheus["tmpfs"] == ["/tmp"]
    (job, *_) = yaml.safe_load(text("deploy/prometheus/prometheus.yml"))["scrape_configs"]
    file = job["authorization"]["credentials_file"]
    shell, option, script, name = prometheus["entrypoint"]
    write = script.replace("$$", "$").partition("exec ")[0].replace(file, "/dev/stdout")
    for token in ("0123456789abcdef", "%s \\n", ""):
        printed = _output([shell, option, write, name], METRICS_TOKEN=token)
        assert printed == token
    assert script.endswith('exec /bin/prometheus "$$@"')


def test_every_mounted_path_exists(services: dict[str, Any]) -> None:
    every_mount = chain.from_iterable(map(mounts, services.values()))
    local = {mount.split(":")[0] for mount in every_mount if mount.startswith(".")}
    assert local >= {"./deploy/caddy/Caddyfile", "./deploy/prometheus", "./deploy/grafana/dashboards"}
    assert [path for path in local if not (ROOT / path).exists()] == []


def test_the_proxy_streams_and_checks_the_readiness_of_servers(services: dict[str, Any]) -> None:
    proxy = text("deploy/caddy/Caddyfile")
    (upstreams,) = re.findall(r"reverse_proxy (.*) \{", proxy)
    api_servers = {name for name, role in roles(services).items() if role == "api"}
    assert {upstream.split(":")[0] for upstream in upstreams.split()} == api_servers
    assert "flush_interval -1" in proxy
    assert "health_uri /readyz" in proxy


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_each_alert_fires_when_it_should() -> None:
    rules = ROOT / "deploy/prometheus/alerts.test.yml"
    result = subprocess.run(
        ["promtool", "test", "rules", str(rules)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("name", ["hypervisor", "hypervisor-scheduler@"])
def test_a_restart_of_a_unit_keeps_its_workloads_running(name: str) -> None:
    unit = ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string(text(f"deploy/systemd/{name}.service"))
    service = unit["Service"]
    assert service["KillMode"] == "process"
    assert service["OOMPolicy"] == "continue"
    assert "PrivateTmp" not in service
    assert "PrivateDevices" not in service


def test_every_dependency_of_the_image_has_a_package_for_musl() -> None:
    """So that BASE may be Alpine, except for the extra that the document names."""
    lock = tomllib.loads(text("uv.lock"))
    packages = {package["name"]: package for package in lock["package"]}
    needed, stack = set(), ["mlops-hypervisor"]
    while stack:
        package = packages[stack.pop()]
        extras = package.get("optional-dependencies", {}) if package["name"] == "mlops-hypervisor" else {}
        for one in (*package.get("dependencies", []), *extras.get("telemetry", [])):
            if one["name"] not in needed:
                needed.add(one["name"])
                stack.append(one["name"])
    missing = {name for name in needed if not _runs_on_musl(packages[name])}
    assert missing == set()
    assert not _runs_on_musl(packages["ortools"])


def _runs_on_musl(package: dict[str, Any]) -> bool:
    wheels = [wheel["url"] for wheel in package.get("wheels", [])]
    return any("none-any" in wheel or ("musllinux" in wheel and "x86_64" in wheel) for wheel in wheels)


def test_the_image_needs_no_program_that_a_small_base_lacks() -> None:
    steps = re.findall(r"^RUN (.*(?:\\\n.*)*)", text("Dockerfile"), re.MULTILINE)
    programs = {part.split()[0] for step in steps for part in re.split(r"&&|\\\n", step) if part.split()}
    assert programs <= {"chown", "echo", "mkdir", "python3", "/opt/uv/bin/pip", "/opt/uv/bin/uv"}


def test_the_page_of_alerts_has_their_severity_and_their_time() -> None:
    page = text("docs/operations.md")
    (group,) = yaml.safe_load(text("deploy/prometheus/alerts.yml"))["groups"]
    for rule in group["rules"]:
        minutes = int(rule["for"].removesuffix("m"))
        stated = f"{rule['labels']['severity'].capitalize()}, after {minutes} minute{'s'[: minutes > 1]}. "
        assert f"### {rule['alert']}\n\n{stated}" in page


def test_the_key_of_the_documented_container_is_kept(tmp_path: Path) -> None:
    (block,) = blocks("docs/deployment.md", "The image", "console")
    _, create, start, _ = commands(block)
    assert "--env-file hypervisor.env" in start
    keys = []
    for _ in range(2):
        subprocess.run(["sh", "-euc", create], check=True, cwd=tmp_path)
        keys.append((tmp_path / "hypervisor.env").read_text())
    assert keys[0] == keys[1]
    assert re.fullmatch(r"SECRET_KEY=[0-9a-f]{64}\n", keys[0])
    assert (tmp_path / "hypervisor.env").stat().st_mode & 0o077 == 0


def _flat(path: str) -> str:
    return " ".join(text(path).split())


def _output(command: list[str], **environment: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
