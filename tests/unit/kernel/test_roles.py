"""The order of roles."""

from __future__ import annotations

from itertools import product

from hypervisor.kernel.roles import Role


def test_each_role_includes_itself_and_the_lower_ones() -> None:
    order = [Role.VIEWER, Role.DEVELOPER, Role.ADMIN]
    for one, other in product(order, order):
        assert one.includes(other) == (order.index(one) >= order.index(other))
