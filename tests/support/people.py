"""People for end-to-end tests: registered through the public API, each with a client of their own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hypervisor.client import Client
from tests.support.wait import PROMPT, eventually_sync

PASSWORD = "a long enough password"


@contextmanager
def somebody(url: str, name: str = "ada", *, organization: str | None = "lab") -> Iterator[Client]:
    """A registered and logged-in person, who has made an organization unless that is None."""
    with Client(url) as client:
        client.accounts.register(name, f"{name}@example.org", PASSWORD)
        client.accounts.login(name, PASSWORD)
        if organization is not None:
            client.organizations.create(organization)
        yield client


def all_in(client: Client, ids: list[int], state: str, *, within: float = PROMPT) -> None:
    """Wait until all of these deployments are in a state; fails with where each is and why."""

    def there() -> bool:
        seen = [client.deployments.get(one) for one in ids]
        assert all(one["status"] == state for one in seen), [
            (one["name"], one["status"], one["reason"]) for one in seen
        ]
        return True

    eventually_sync(there, within=within, every=0.1, what=f"all {len(ids)} are {state}")


def counts(client: Client, ids: list[int]) -> dict[str, int]:
    """How many are in each state."""
    found: dict[str, int] = {}
    for one in ids:
        state: Any = client.deployments.get(one)["status"]
        found[state] = found.get(state, 0) + 1
    return found
