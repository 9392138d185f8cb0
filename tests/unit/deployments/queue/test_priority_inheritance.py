"""What those that wait lend to those they wait for."""

from __future__ import annotations

from hypervisor.deployments.queue.priority_inheritance import Inherited, Waits, inherit


def test_the_highest_of_those_that_wait_is_lent() -> None:
    lent = inherit([Waits(2, 500, 1), Waits(3, 900, 1), Waits(4, 100, 1)])
    assert lent == {1: Inherited(900, 3)}


def test_it_goes_down_the_whole_chain() -> None:
    """4 waits for 3, 3 for 2, 2 for 1."""
    lent = inherit([Waits(4, 900, 3), Waits(3, 100, 2), Waits(2, 500, 1)])
    assert lent == {3: Inherited(900, 4), 2: Inherited(900, 4), 1: Inherited(900, 4)}


def test_of_equals_the_first_lends() -> None:
    assert inherit([Waits(9, 500, 1), Waits(8, 500, 1)]) == {1: Inherited(500, 8)}


def test_two_parents_are_both_lent_to() -> None:
    lent = inherit([Waits(3, 700, 1), Waits(3, 700, 2), Waits(4, 800, 2)])
    assert lent == {1: Inherited(700, 3), 2: Inherited(800, 4)}


def test_nobody_waits() -> None:
    assert inherit([]) == {}
