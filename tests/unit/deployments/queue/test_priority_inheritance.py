"""Priority inheritance from waiting deployments to their dependencies."""

from __future__ import annotations

from hypervisor.deployments.queue.priority_inheritance import Inherited, Waits, inherit


def test_the_highest_waiting_priority_is_inherited() -> None:
    inherited = inherit([Waits(2, 500, 1), Waits(3, 900, 1), Waits(4, 100, 1)])
    assert inherited == {1: Inherited(900, 3)}


def test_the_whole_chain_inherits() -> None:
    """4 waits for 3, 3 for 2, 2 for 1."""
    inherited = inherit([Waits(4, 900, 3), Waits(3, 100, 2), Waits(2, 500, 1)])
    assert inherited == {3: Inherited(900, 4), 2: Inherited(900, 4), 1: Inherited(900, 4)}


def test_the_first_of_equal_priorities_is_inherited_from() -> None:
    assert inherit([Waits(9, 500, 1), Waits(8, 500, 1)]) == {1: Inherited(500, 8)}


def test_both_parents_inherit() -> None:
    inherited = inherit([Waits(3, 700, 1), Waits(3, 700, 2), Waits(4, 800, 2)])
    assert inherited == {1: Inherited(700, 3), 2: Inherited(800, 4)}


def test_nothing_is_inherited_without_waiting_deployments() -> None:
    assert inherit([]) == {}
