"""Options as fields of requests."""

from __future__ import annotations

import pytest
import typer

from hypervisor.cli.commands.node_flags import parse_node
from hypervisor.cli.commands.option_values import command_of, join_environment, parse_codes, parse_dependency
from hypervisor.cli.core.key_values import parse_pairs


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train", {"deployment": "train", "condition": "succeeded"}),
        ("12", {"deployment": 12, "condition": "succeeded"}),
        ("0644", {"deployment": "0644", "condition": "succeeded"}),
        ("2026-01-01", {"deployment": "2026-01-01", "condition": "succeeded"}),
        ("\u0661\u0662", {"deployment": "\u0661\u0662", "condition": "succeeded"}),
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
    with pytest.raises(typer.BadParameter, match="A is given with --env and with --secret"):
        join_environment({"A": "1"}, {"A": "2"})


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["python", "train.py"], ["python", "train.py"]),
        (["true"], ["true"]),
        (["/opt/run-1.2_x"], ["/opt/run-1.2_x"]),
        (["echo", "a && b"], ["echo", "a && b"]),
        (["a && b"], "a && b"),
        (["echo $HOME > out"], "echo $HOME > out"),
        (["python train.py"], "python train.py"),
        ([], []),
    ],
)
def test_one_quoted_text_is_for_a_shell_and_several_words_are_arguments(
    words: list[str], command: str | list[str]
) -> None:
    assert command_of(words) == command


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
    "text",
    [
        "name=a,cpu=8",
        "name=a,cpu=8,ram=1,cpu=9",
        "name=a,cpu=x,ram=1",
        "cpu",
        "name=a,cpu=1,ram=1,disk=3",
        "",
    ],
)
def test_a_node_that_is_not_complete_is_a_usage_error(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        parse_node(text)


def test_pairs_keep_what_follows_the_first_equals_sign() -> None:
    assert parse_pairs(["a=b=c", "d=", "x=NO", "n=0644"]) == {"a": "b=c", "d": "", "x": "NO", "n": "0644"}
    with pytest.raises(typer.BadParameter, match="KEY=VALUE"):
        parse_pairs(["a"])


@pytest.mark.parametrize("option", ["--env", "--secret", "--label", "--node-selector"])
def test_a_key_of_an_option_is_given_once(option: str) -> None:
    with pytest.raises(typer.BadParameter, match=f"{option} A is given twice"):
        parse_pairs(["A=1", "B=2", "A=1"], option)


def test_exit_codes_are_a_list_with_commas() -> None:
    assert parse_codes("1, 137") == [1, 137]
    assert parse_codes(None) is None
    for text in ("", "1,", "one", "-1", "1_0", "\u0661", "9" * 5000):
        with pytest.raises(typer.BadParameter):
            parse_codes(text)
