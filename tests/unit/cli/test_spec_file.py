"""Options and YAML files as requests."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from hypervisor.cli.commands.node_flags import parse_node
from hypervisor.cli.commands.spec_file import (
    OLD_NAMES,
    join_environment,
    parse_codes,
    parse_dependency,
    read_file,
)
from hypervisor.cli.core.failures import CommandFailed
from hypervisor.cli.core.key_values import parse_pairs
from hypervisor.deployments.schemas.requests import DeploymentCreate


def write_file(folder: Path, text: str) -> str:
    path = folder / "work.yaml"
    path.write_text(text)
    return str(path)


def test_a_file_with_one_deployment(tmp_path: Path) -> None:
    path = write_file(
        tmp_path, "name: train\nimage: busybox\ncpu: 2\nram: 4\ngpu: 0.5\ncommand: python t.py 'a b'\n"
    )
    assert read_file(path) == [
        {
            "name": "train",
            "docker_image": "busybox",
            "required_cpu_cores": 2,
            "required_ram_gb": 4,
            "required_gpu_count": 0.5,
            "command": ["python", "t.py", "a b"],
        }
    ]


def test_keys_beside_the_list_are_defaults_for_every_deployment(tmp_path: Path) -> None:
    text = "cluster: lab\npriority: LOW\ndeployments:\n- name: a\n- name: b\n  priority: HIGH\n"
    assert read_file(write_file(tmp_path, text)) == [
        {"cluster": "lab", "priority": "LOW", "name": "a"},
        {"cluster": "lab", "priority": "HIGH", "name": "b"},
    ]


def test_several_documents_and_lists(tmp_path: Path) -> None:
    names = [each["name"] for each in read_file(write_file(tmp_path, "name: a\n---\n- name: b\n- name: c\n"))]
    assert names == ["a", "b", "c"]


def test_numbers_and_booleans_in_the_environment_become_text(tmp_path: Path) -> None:
    text = "name: a\ncommand: [sleep, 5]\nenv: {N: 1, FAST: true, KEY: {value: x, secret: true}}\n"
    (spec,) = read_file(write_file(tmp_path, text))
    assert spec["env"] == {"N": "1", "FAST": "true", "KEY": {"value": "x", "secret": True}}
    assert spec["command"] == ["sleep", "5"]


@pytest.mark.parametrize(
    ("text", "notes"),
    [
        ("name: a\nplacement: spread\n", 1),
        ("placement: spread\ndeployments:\n- name: a\n- name: b\n", 1),
        ("name: a\n---\nname: b\nplacement: pack\n", 1),
        ("name: a\nreplica_placement: spread\n", 0),
        ("name: placement\nlabels: {placement: x}\n", 0),
    ],
)
def test_an_old_name_in_a_file_gets_one_note(
    tmp_path: Path, text: str, notes: int, capsys: pytest.CaptureFixture[str]
) -> None:
    read_file(write_file(tmp_path, text))
    note = "note: placement is now replica_placement; the next version removes the old name\n"
    assert capsys.readouterr() == ("", notes * note)


def test_every_old_name_of_the_request_is_noted() -> None:
    assert DeploymentCreate.old_names == OLD_NAMES


@pytest.mark.parametrize("text", ["", "just words", "- 1\n", "image: x\n", "deployments: []\n"])
def test_a_file_without_deployments_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(CommandFailed):
        read_file(write_file(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train", {"deployment": "train", "condition": "succeeded"}),
        ("12", {"deployment": 12, "condition": "succeeded"}),
        ("train:running", {"deployment": "train", "condition": "running"}),
        ("12:succeeded", {"deployment": 12, "condition": "succeeded"}),
    ],
)
def test_dependencies(text: str, expected: dict[str, object]) -> None:
    assert parse_dependency(text) == expected


def test_an_unknown_condition_is_a_usage_error() -> None:
    with pytest.raises(typer.BadParameter, match="NAME:running"):
        parse_dependency("train:finished")


def test_secrets_are_marked() -> None:
    assert join_environment({"A": "1"}, {"B": "2"}) == {"A": "1", "B": {"value": "2", "secret": True}}
    assert join_environment(None, None) is None


def test_a_node_option_has_all_fields() -> None:
    assert parse_node("name=a,count=3,cpu=8,ram=32.5,gpu=4,model=A100,label.zone=b") == {
        "name": "a",
        "count": 3,
        "cpu_cores": 8.0,
        "ram_gb": 32.5,
        "gpu_count": 4,
        "gpu_model": "A100",
        "labels": {"zone": "b"},
    }


@pytest.mark.parametrize(
    "text", ["name=a,cpu=8", "name=a,cpu=x,ram=1", "cpu", "name=a,cpu=1,ram=1,disk=3", ""]
)
def test_a_node_that_is_not_complete_is_a_usage_error(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        parse_node(text)


def test_pairs_keep_what_follows_the_first_equals_sign() -> None:
    assert parse_pairs(["a=b=c", "d="]) == {"a": "b=c", "d": ""}
    with pytest.raises(typer.BadParameter, match="KEY=VALUE"):
        parse_pairs(["a"])


def test_exit_codes_are_a_list_with_commas() -> None:
    assert parse_codes("1, 137") == [1, 137]
    assert parse_codes(None) is None
    for text in ("", "1,", "one", "-1"):
        with pytest.raises(typer.BadParameter):
            parse_codes(text)
