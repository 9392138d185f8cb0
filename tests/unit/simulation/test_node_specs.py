"""Node specifications and node changes."""

from __future__ import annotations

from collections import Counter

import pytest

from hypervisor.simulation.errors import WorkloadError
from hypervisor.simulation.node_specs import UNLIMITED, NodeSpec, is_resize, parse_node_specs, resize


def test_a_specification_has_count_gpus_cpu_and_ram() -> None:
    assert parse_node_specs("2x8gpu:A100,64cpu,512gb") == (
        NodeSpec("node-1", 64000, 524288, 8, "A100"),
        NodeSpec("node-2", 64000, 524288, 8, "A100"),
    )
    assert parse_node_specs("0.5cpu") == (NodeSpec("node-1", 500, UNLIMITED, 0),)


@pytest.mark.parametrize("text", ["", "nodes.csv", "10", "3x", "2x65gpu", "1.5gpu", "8gpu 4cpu", "4cpu:A100"])
def test_an_invalid_specification_is_refused(text: str) -> None:
    with pytest.raises(WorkloadError):
        parse_node_specs(text)


MIXED = (*parse_node_specs("60x8gpu:A"), *parse_node_specs("40x2gpu:B"))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("+10%", {"A": 66, "B": 44}),
        ("-25%", {"A": 45, "B": 30}),
        ("+5", {"A": 63, "B": 42}),
        ("-5", {"A": 57, "B": 38}),
        ("+200%", {"A": 180, "B": 120}),
    ],
)
def test_a_change_keeps_the_mix(change: str, expected: dict[str, int]) -> None:
    assert is_resize(change)
    changed = resize(MIXED, change)
    assert Counter(node.gpu_model for node in changed) == expected
    assert len({(node.gpu_model, node.name) for node in changed}) == len(changed)


def test_a_change_leaves_at_least_one_node() -> None:
    with pytest.raises(WorkloadError, match="no node of 100 would be left"):
        resize(MIXED, "-100%")
    assert not is_resize("10x8gpu")
    with pytest.raises(WorkloadError):
        resize(MIXED, "+1.5")


@pytest.mark.parametrize(
    ("change", "count"),
    [("+10%", 5), ("+1%", 5), ("-10%", 3), ("+37.5%", 6), ("+1", 5), ("-1", 3), ("+1000%", 44)],
)
def test_a_change_of_a_small_cluster_is_at_least_one_node(change: str, count: int) -> None:
    assert len(resize(parse_node_specs("4x8gpu"), change)) == count


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("+0%", "changes nothing"),
        ("-0", "changes nothing"),
        ("+", "is not a node change"),
        ("+10 %", "is not a node change"),
        ("++1", "is not a node change"),
        ("+ten", "is not a node change"),
        ("+99999999999", "at most 1,000,000 nodes"),
        ("+99999999999%", "at most 1,000,000 nodes"),
        ("-90%", "no node of 4 would be left"),
    ],
)
def test_a_change_that_cannot_be_made_is_refused(change: str, sentence: str) -> None:
    assert is_resize(change)
    with pytest.raises(WorkloadError, match=sentence):
        resize(parse_node_specs("4x8gpu"), change)
