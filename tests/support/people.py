"""Users for end-to-end tests: registered through the public API, each with a client."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hypervisor.client import Client
from tests.support.wait import PROMPT, eventually_sync

PASSWORD = "a long enough password"


@contextmanager
def registered_client(url: str, name: str = "ada", *, organization: str | None = "lab") -> Iterator[Client]:
    """The client of a registered and logged-in user, with a new organization unless that is None."""
    with Client(url) as client:
        client.accounts.register(name, f"{name}@example.org", PASSWORD)
        client.accounts.login(name, PASSWORD)
        if organization is not None:
            client.organizations.create(organization)
        yield client


def all_in(client: Client, ids: list[int], state: str, *, within: float = PROMPT) -> None:
    """Wait until all of these deployments are in a state; fails with their states and reasons."""

    def is_reached() -> bool:
        deployments = [client.deployments.get(id_) for id_ in ids]
        assert all(deployment["status"] == state for deployment in deployments), [
            (deployment["name"], deployment["status"], deployment["reason"]) for deployment in deployments
        ]
        return True

    eventually_sync(is_reached, within=within, every=0.1, what=f"all {len(ids)} are {state}")


def counts(client: Client, ids: list[int]) -> dict[str, int]:
    """The number of deployments in each state."""
    numbers: dict[str, int] = {}
    for id_ in ids:
        state: Any = client.deployments.get(id_)["status"]
        numbers[state] = numbers.get(state, 0) + 1
    return numbers
