"""The container configuration of a launch spec, and other pure parts of the Docker runtime."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from hypervisor.kernel.resources import Resources
from hypervisor.runtimes.docker.client import DockerClient
from hypervisor.runtimes.docker.config import (
    check_image,
    container_config,
    is_container_name,
    network_config,
    network_name,
)
from hypervisor.runtimes.docker.images import pull_failure
from hypervisor.runtimes.docker.observe import observation, observed_state
from hypervisor.runtimes.protocol import LaunchFailed, LaunchSpec, ObservedState, PortBinding

SPEC = LaunchSpec("hv-inst-1-1-0", Resources(1500, 512), image="team/model:1")


def config(**changes: Any) -> dict[str, Any]:
    return container_config(replace(SPEC, **changes), "inst")


def environment(**changes: Any) -> dict[str, str]:
    return dict(item.split("=", 1) for item in config(**changes)["Env"])


def test_limits_are_exact_and_leave_no_swap() -> None:
    host = config()["HostConfig"]
    assert host["NanoCPUs"] == 1_500_000_000
    assert host["Memory"] == host["MemorySwap"] == 512 * 1024 * 1024
    assert host["PidsLimit"] == 256


def test_zero_sets_no_limit_and_a_tiny_amount_sets_the_smallest_limit() -> None:
    none = config(resources=Resources())["HostConfig"]
    assert "NanoCPUs" not in none
    assert "Memory" not in none
    tiny = config(resources=Resources(1, 1))["HostConfig"]
    assert tiny["NanoCPUs"] == 10_000_000
    assert tiny["Memory"] == 6 * 1024 * 1024


def test_the_container_is_hardened_and_mounts_nothing() -> None:
    host = config()["HostConfig"]
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert host["RestartPolicy"] == {"Name": "no"}
    assert host["NetworkMode"] == "hv-inst" == network_name("inst")
    assert host["LogConfig"] == {"Type": "local", "Config": {"max-size": "10m", "max-file": "3"}}
    assert not host["Privileged"]
    assert not host["ReadonlyRootfs"]
    assert not {"Binds", "Mounts", "Devices", "Tmpfs"} & set(host)


def test_a_read_only_root_keeps_a_writable_tmp() -> None:
    host = config(read_only_root=True)["HostConfig"]
    assert host["ReadonlyRootfs"]
    assert list(host["Tmpfs"]) == ["/tmp"]


def test_a_working_directory_replaces_that_of_the_image() -> None:
    assert config(working_dir="/workspace")["WorkingDir"] == "/workspace"
    assert "WorkingDir" not in config()


def test_containers_of_one_installation_cannot_reach_each_other() -> None:
    assert network_config("inst")["Options"] == {"com.docker.network.bridge.enable_icc": "false"}
    assert network_config("inst", isolated=False)["Options"] == {}


def test_whole_and_fractional_gpus_are_requested_by_index() -> None:
    assert "DeviceRequests" not in config()["HostConfig"]
    for gpu_milli in (1000, 250):
        host = config(gpu_indices=(1, 3), gpu_milli=gpu_milli)["HostConfig"]
        assert host["DeviceRequests"] == [{"DeviceIDs": ["1", "3"], "Capabilities": [["gpu"]]}]
        assert environment(gpu_indices=(1, 3), gpu_milli=gpu_milli)["NVIDIA_VISIBLE_DEVICES"] == "1,3"


def test_no_deployment_can_grant_itself_devices_by_its_environment() -> None:
    assert environment(env={"NVIDIA_VISIBLE_DEVICES": "all"})["NVIDIA_VISIBLE_DEVICES"] == "void"
    result = environment(env={"NVIDIA_VISIBLE_DEVICES": "all"}, gpu_indices=(2,))
    assert result["NVIDIA_VISIBLE_DEVICES"] == "2"


def test_ports_are_published_on_loopback_and_passed_in_the_environment() -> None:
    host = config(ports=(8080, 9090))["HostConfig"]
    assert host["PortBindings"] == {
        "8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}],
        "9090/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}],
    }
    env = environment(ports=(8080, 9090), env={"PORT": "1", "A": "b=c"})
    assert (env["PORT"], env["PORT_8080"], env["PORT_9090"], env["A"]) == ("8080", "8080", "9090", "b=c")


def test_a_command_is_the_whole_argv_and_none_is_the_images_own() -> None:
    assert "Entrypoint" not in config()
    with_command = config(command=("python", "-c", "print('a b')"))
    assert with_command["Entrypoint"] == ["python", "-c", "print('a b')"]
    assert with_command["Cmd"] == []


def test_labels_identify_installation_and_instance() -> None:
    assert config()["Labels"] == {"hypervisor.install": "inst", "hypervisor.instance": "hv-inst-1-1-0"}


@pytest.mark.parametrize(
    "image",
    ["busybox", "team/model:1.0", "127.0.0.1:5000/a/b@sha256:" + "0" * 64, "ghcr.io/Org/x_y-z:tag.1"],
)
def test_real_image_names_pass(image: str) -> None:
    assert check_image(image) == image


@pytest.mark.parametrize(
    "image",
    [None, "", "-v", "--privileged", "a b", "a\n", "a\x00b", " a", "a?tag=b", "a#b", "a%20b", "é", "a" * 600],
)
def test_invalid_image_names_are_refused(image: str | None) -> None:
    with pytest.raises(LaunchFailed) as refusal:
        check_image(image)
    assert not refusal.value.retryable


@pytest.mark.parametrize("name", ["", "-a", "../json", "a/b", "a?b", "a b", "a" * 300])
def test_names_that_could_leave_their_place_in_a_url_are_no_container_names(name: str) -> None:
    assert not is_container_name(name)


@pytest.mark.parametrize(
    ("message", "status", "retryable"),
    [
        ("No such image: a:latest", 404, False),
        ("pull access denied for a, repository does not exist or may require 'docker login'", 404, False),
        ("manifest for a:b not found: manifest unknown: manifest unknown", 0, False),
        ("no matching manifest for linux/arm64/v8 in the manifest list entries", 0, False),
        ("invalid reference format", 400, False),
        ('Get "https://r/v2/": dial tcp: lookup r: no such host', 500, True),
        ('Get "https://r/v2/": dial tcp 127.0.0.1:1: connect: connection refused', 500, True),
        ("toomanyrequests: You have reached your pull rate limit", 500, True),
        ("received unexpected HTTP status: 503 Service Unavailable", 500, True),
        ("unexpected EOF", 0, True),
    ],
)
def test_a_failed_pull_is_retryable_or_permanent(message: str, status: int, retryable: bool) -> None:
    failure = pull_failure(message, status)
    assert str(failure) == message
    assert failure.retryable is retryable


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("created", ObservedState.CREATED),
        ("running", ObservedState.RUNNING),
        ("paused", ObservedState.RUNNING),
        ("removing", ObservedState.RUNNING),
        ("exited", ObservedState.EXITED),
        ("dead", ObservedState.EXITED),
        ("stopped", ObservedState.EXITED),
    ],
)
def test_only_ended_containers_count_as_exited(word: str, state: ObservedState) -> None:
    assert observed_state(word) is state


def test_times_with_nanoseconds_and_other_zones_are_read_as_utc() -> None:
    result = observation(
        details("exited", StartedAt="2026-01-02T03:04:05.123456789Z", FinishedAt="2026-01-02T05:04:06+02:00")
    )
    assert result.started_at is not None
    assert result.finished_at is not None
    assert result.started_at.isoformat() == "2026-01-02T03:04:05.123456+00:00"
    assert result.finished_at.isoformat() == "2026-01-02T03:04:06+00:00"


def test_a_helper_that_ran_out_of_memory_does_not_spoil_a_success() -> None:
    assert not observation(details("exited", OOMKilled=True, ExitCode=0)).oom_killed
    killed = observation(details("exited", OOMKilled=True, ExitCode=137))
    assert killed.oom_killed
    assert killed.message == "killed: out of memory (limit 64 MiB)"


def test_a_running_container_has_ports_and_no_exit_code() -> None:
    result = observation(details("running"))
    assert result.exit_code is None
    assert result.finished_at is None
    assert result.ports == (PortBinding(80, "127.0.0.1", 32768),)


@pytest.mark.parametrize("endpoint", ["/var/run/docker.sock", "ssh://host", "file:///x"])
def test_an_endpoint_of_another_kind_is_refused(endpoint: str) -> None:
    with pytest.raises(ValueError, match="endpoint"):
        DockerClient(endpoint)


def test_a_client_can_be_created_and_closed_without_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://example:2375")
    client = DockerClient(None)
    assert client.endpoint == "tcp://example:2375"
    asyncio.run(client.close())


def details(status: str, **state: Any) -> dict[str, Any]:
    """The used part of an inspected container."""
    never = "0001-01-01T00:00:00Z"
    return {
        "Name": "/hv-inst-1-1-0",
        "State": {
            "Status": status,
            "ExitCode": 0,
            "OOMKilled": False,
            "Error": "",
            "StartedAt": never,
            "FinishedAt": never,
            **state,
        },
        "HostConfig": {"Memory": 64 * 1024 * 1024},
        "NetworkSettings": {
            "Ports": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "32768"}], "9/tcp": None}
        },
    }
