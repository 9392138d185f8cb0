"""Fields of requests for deployments: image names, environments, amounts, defaults."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from hypervisor.deployments.schemas.filters import parse_labels
from hypervisor.deployments.schemas.requests import DeploymentCreate, DeploymentUpdate
from hypervisor.runtimes.docker.config import check_image


def request(**fields: Any) -> DeploymentCreate:
    return DeploymentCreate.model_validate({"name": "x", **fields})


@pytest.mark.parametrize(
    "image",
    [
        "python",
        "python:3.12-slim",
        "library/python",
        "localhost/app",
        "localhost:5000/team/app:v1.0_rc-1",
        "registry.example.com/a/b/c__d/e-f",
        "[::1]:5000/app",
        f"app@sha256:{'a' * 64}",
        f"ghcr.io/org/app:1@sha256:{'0' * 64}",
    ],
)
def test_valid_image_names(image: str) -> None:
    assert request(docker_image=image).docker_image == image


@pytest.mark.parametrize(
    ("command", "argv"),
    [
        (["python", "-V"], ["python", "-V"]),
        ([], []),
        ("python -V", ["/bin/sh", "-c", "python -V"]),
        ("a && b | c > $HOME/d\ne 'f'\n", ["/bin/sh", "-c", "a && b | c > $HOME/d\ne 'f'\n"]),
        ("  spaces stay  ", ["/bin/sh", "-c", "  spaces stay  "]),
        (["sh", "-c", "x"], ["sh", "-c", "x"]),
    ],
)
def test_a_command_is_a_list_or_a_text_for_a_shell(command: Any, argv: list[str]) -> None:
    assert request(command=command).command == argv
    assert DeploymentUpdate.model_validate({"command": command}).command == argv


@pytest.mark.parametrize(
    "command",
    [
        "",
        " \n",
        "echo 'a",
        "-x",
        "+x",
        "nul\0",
        5,
        1.5,
        True,
        {"a": "b"},
        ["", "x"],
        ["a", 1],
        [["a"]],
        [None],
    ],
)
def test_other_commands_are_refused(command: Any) -> None:
    with pytest.raises(ValidationError):
        request(command=command)


@pytest.mark.parametrize("kind", ["argument", "text", "variable", "secret"])
def test_a_string_is_at_most_what_the_system_can_start(kind: str) -> None:
    def fields(size: int) -> dict[str, Any]:
        value = "é" * 4 + "v" * (size - 8 - len("NAME="))
        every: dict[str, dict[str, Any]] = {
            "argument": {"command": ["echo", "a" * size]},
            "text": {"command": "a" * size},
            "variable": {"env": {"NAME": value}},
            "secret": {"env": {"NAME": {"value": value, "secret": True}}},
        }
        return every[kind]

    request(**fields(131_071))
    with pytest.raises(ValidationError, match="131,072 bytes, and a program can be started with 131,071"):
        request(**fields(131_072))


def test_a_string_is_measured_in_bytes() -> None:
    request(env={"A": "😀" * 32_767})
    with pytest.raises(ValidationError, match=r"the variable AAAAA, with its name, has 131,074 bytes"):
        request(env={"AAAAA": "😀" * 32_767})


@pytest.mark.parametrize("fraction", [0.01, 0.05, 0.099])
def test_a_fraction_of_a_gpu_below_the_least_is_refused(fraction: float) -> None:
    request(required_gpu_count=0.1)
    with pytest.raises(ValidationError, match=r"smallest fraction of a GPU is 0\.1"):
        request(required_gpu_count=fraction)


@pytest.mark.parametrize("path", ["/tmp/\u202egnp", "/tmp/a\u2028b", "/tmp/\x1b[31m", "/tmp/\u2066x\u2069"])
def test_a_working_directory_is_shown_as_it_is(path: str) -> None:
    with pytest.raises(ValidationError, match="control characters"):
        request(working_dir=path)


@pytest.mark.parametrize(
    "image",
    [
        "",
        "-v",
        "--privileged",
        "a b",
        "a\n",
        "app:",
        "app@sha256:short",
        "/app",
        "app/",
        "a//b",
        "app:-tag",
        "http://example.com/app",
        "../etc",
        "app;rm",
        "$(id)",
        "a" * 513,
    ],
)
def test_invalid_image_names(image: str) -> None:
    with pytest.raises(ValidationError):
        request(docker_image=image)


@given(st.text(max_size=600))
def test_the_runtime_accepts_every_accepted_image(text: str) -> None:
    try:
        taken = request(docker_image=text).docker_image
    except ValidationError:
        return
    assert check_image(taken) == text


def test_long_names_are_checked_quickly() -> None:
    with pytest.raises(ValidationError):
        request(docker_image="a-" * 250 + "!")


@pytest.mark.parametrize(
    ("given_path", "kept"),
    [("/", "/"), ("/a", "/a"), ("//a///b/./c/", "/a/b/c"), ("/with space/é", "/with space/é")],
)
def test_a_working_directory_is_normalised(given_path: str, kept: str) -> None:
    assert request(working_dir=given_path).working_dir == kept


@pytest.mark.parametrize("path", ["", "a", "./a", "~", "/a/../b", "/..", "/a\nb", "/a\0", "/" + "a" * 1024])
def test_a_working_directory_is_absolute_and_one_line(path: str) -> None:
    with pytest.raises(ValidationError):
        request(working_dir=path)


@given(st.floats() | st.integers())
def test_amounts_are_exact_or_refused(value: float) -> None:
    try:
        taken = request(required_cpu_cores=value, required_ram_gb=value, required_gpu_count=0)
    except ValidationError:
        return
    resources = taken.resources
    assert 0 <= resources.cpu_milli <= 2**53
    assert resources.cpu_milli >= value * 1000 * (1 - 1e-9)
    assert resources.ram_mib <= 2**53


@pytest.mark.parametrize("count", [0, 0.1, 0.5, 0.9, 1, 2, 64])
def test_valid_gpu_requests(count: float) -> None:
    assert request(required_gpu_count=count).resources.gpu_milli == round(count * 1000)


@pytest.mark.parametrize("count", [-0.5, 1.5, 2.001, float("nan"), float("inf")])
def test_invalid_gpu_requests(count: float) -> None:
    with pytest.raises(ValidationError):
        request(required_gpu_count=count)


@pytest.mark.parametrize(
    ("given_", "policy", "retries"),
    [
        ({}, "on-failure", 3),
        ({"kind": "job"}, "never", 0),
        ({"kind": "job", "restart_policy": "always"}, "always", 3),
        ({"restart_policy": "never"}, "never", 0),
        ({"kind": "job", "max_retries": 5}, "never", 5),
        ({"max_retries": 0}, "on-failure", 0),
        ({"kind": "job", "retry_exit_codes": [137]}, "on-failure", 3),
    ],
)
def test_restart_policy_and_retries_follow_the_kind(
    given_: dict[str, Any], policy: str, retries: int
) -> None:
    created = request(**given_)
    assert (created.chosen_restart_policy, created.chosen_max_retries) == (policy, retries)


def test_gpu_model_and_models_are_one_list() -> None:
    assert request(gpu_model="A100", gpu_models=["H100", "A100"]).all_gpu_models == ["A100", "H100"]
    assert request().all_gpu_models == []


def test_dependencies_have_a_short_and_a_long_form() -> None:
    created = request(depends_on=[7, "train", {"deployment": 8, "condition": "running"}])
    assert [(one.deployment, one.condition) for one in created.dependencies()] == [
        (7, "succeeded"),
        ("train", "succeeded"),
        (8, "running"),
    ]


def test_an_update_has_only_the_given_fields() -> None:
    assert DeploymentUpdate.model_validate({"env": None, "priority": 5}).model_fields_set == {
        "env",
        "priority",
    }
    with pytest.raises(ValidationError):
        DeploymentUpdate.model_validate({"cluster_id": 3})


def test_labels_of_a_filter() -> None:
    assert parse_labels(["team=vision", "gpu", "formula=a=b", "empty="]) == [
        ("team", "vision"),
        ("gpu", None),
        ("formula", "a=b"),
        ("empty", ""),
    ]


@pytest.mark.parametrize(
    ("directory", "reason"),
    [
        ("data", "must be an absolute path, such as /workspace"),
        ("./data", "must be an absolute path, such as /workspace"),
        ("a..b/c", "must be an absolute path, such as /workspace"),
        ("../data", 'must be an absolute path without "..", such as /workspace'),
        ("/a/../b", 'must be an absolute path without "..", such as /workspace'),
    ],
)
def test_a_refused_working_directory_names_its_fault(directory: str, reason: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        request(working_dir=directory)
    assert refusal.value.errors()[0]["msg"] == f"Value error, {reason}"


@pytest.mark.parametrize("field", ["command", "docker_image", "env", "ports", "working_dir"])
def test_null_is_the_same_as_left_out(field: str) -> None:
    assert getattr(request(**{field: None}), field) is None


@pytest.mark.parametrize(
    ("field", "value"), [("command", []), ("env", {}), ("ports", []), ("read_only_root", False)]
)
def test_empty_and_false_are_valid_and_set_nothing(field: str, value: object) -> None:
    assert not getattr(request(**{field: value}), field)


@pytest.mark.parametrize(
    ("field", "value"), [("docker_image", ""), ("working_dir", ""), ("read_only_root", None)]
)
def test_empty_names_and_a_null_flag_are_not_valid(field: str, value: object) -> None:
    with pytest.raises(ValidationError):
        request(**{field: value})
