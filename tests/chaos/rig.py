"""An installation to break: servers that die, workloads that must not, and a record of every answer."""

from __future__ import annotations

import asyncio
import itertools
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import asyncpg  # type: ignore[import-untyped]
import httpx2

from hypervisor.client import Client
from hypervisor.client.errors import ApiError, ClientError
from hypervisor.client.tokens import MemoryTokens
from tests.chaos.eyes import ContainerEyes, Eyes, ProcessEyes
from tests.chaos.server import RECOVERS_WITHIN, Server
from tests.support.docker import IMAGE, Api
from tests.support.invariants import Ledger, Rows, Watch, read_postgresql, violations
from tests.support.people import PASSWORD
from tests.support.wait import eventually_sync


class Rig:
    """People, their record, and the eyes on database and processes."""

    def __init__(self, server: Server, direct_url: str, eyes: Eyes, wanted: Mapping[str, Any]) -> None:
        """`wanted`: fields of every submission that says nothing else."""
        self.server = server
        self.eyes = eyes
        self.apis = [server]
        """Who answers requests; they are asked in turn."""
        self.ledger = Ledger()
        self.ids: dict[str, int] = {}
        """What to ask about: everything accepted and not deleted."""
        self._direct_url = direct_url
        self._wanted = dict(wanted)
        self._tokens = {who: MemoryTokens() for who in ("ada", "bob")}
        self._watch = Watch()
        self._numbers = itertools.count(1)
        self._turns = itertools.count()
        self.schedulers: list[Server] = []
        self.cluster = self.small = 0
        self.guardian = ""
        self._guardian_lives: set[str] = set()

    def furnish(self) -> None:
        """Two people in organizations of their own; one has two clusters and a service that must live."""
        for name, tokens in self._tokens.items():
            with Client(self.server.url, tokens=tokens) as client:
                client.accounts.register(name, f"{name}@example.org", PASSWORD)
                client.accounts.login(name, PASSWORD)
                client.organizations.create(f"lab-{name}")
        with Client(self.server.url, tokens=self._tokens["ada"]) as client:
            size = {"runtime": self.server.runtime, "total_cpu_cores": 8, "total_ram_gb": 8}
            self.cluster = client.clusters.create("main", size)["id"]
            self.small = client.clusters.create("small", {**size, "total_cpu_cores": 1})["id"]
        guardian = self.submit(command=["sleep", "100000"], kind="service", preemptible=False)
        assert guardian is not None
        self.reaches(guardian, "RUNNING")
        self.guardian = f"-{guardian}-1-0"
        self._guardian_lives = self.eyes.lives_of(self.guardian)
        assert self._guardian_lives

    def give_up_the_guardian(self) -> None:
        """From now on it may be killed."""
        self._guardian_lives = set()

    def ask(self, work: Callable[[Client], Any], who: str = "ada") -> Any:
        """What the server answers somebody; None when it does not answer any more. A refusal is raised."""
        url = self.apis[next(self._turns) % len(self.apis)].url
        try:
            with Client(url, tokens=self._tokens[who]) as client:
                return work(client)
        except ApiError as error:
            if error.status >= 500:
                return None
            raise
        except (ClientError, httpx2.HTTPError):
            return None

    def ask_in_vain(self, work: Callable[[Client], Any]) -> None:
        """Ask for what may be refused, because it is over already for example."""
        with suppress(ApiError):
            self.ask(work)

    def refresh(self) -> None:
        """Log in and exchange the refresh token."""
        with (
            suppress(httpx2.HTTPError),
            httpx2.Client(base_url=f"{self.server.url}/api/v1", timeout=30) as http,
        ):
            answer = http.post("/auth/login", data={"username": "bob", "password": PASSWORD}).json()
            http.post("/auth/refresh", json={"refresh_token": answer["refresh_token"]})

    def submit(self, **fields: Any) -> int | None:
        """Submit a deployment under a name of its own; its id, None for no answer (it may exist or not)."""
        name = f"work-{next(self._numbers)}"
        wanted = {
            "cluster_id": self.cluster,
            "kind": "job",
            "required_cpu_cores": 0.25,
            "required_ram_gb": 0.1,
            **self._wanted,
        }
        self.ledger.maybe.add(name)
        made = self.ask(lambda client: client.deployments.create({**wanted, **fields, "name": name}))
        if made is None:
            return None
        self.ledger.maybe.discard(name)
        self.ledger.accepted[name] = self.ids[name] = made["id"]
        return int(made["id"])

    def delete(self, deployment_id: int) -> None:
        """Ask for a deletion; whatever is answered, it may be gone."""
        name = next(name for name, id_ in list(self.ids.items()) if id_ == deployment_id)
        self.ledger.deleted.add(name)
        del self.ids[name]
        self.ask(lambda client: client.deployments.delete(deployment_id))

    def seen(self, deployment_id: int) -> Any:
        """The deployment as the server shows it; None for no answer."""
        return self.ask(lambda client: client.deployments.get(deployment_id))

    def reaches(self, deployment_id: int, *states: str, or_death: bool = False) -> None:
        """Wait until a deployment is in one of these states, or the server has died where that may be."""

        def there() -> bool:
            if or_death and not self.server.is_alive:
                return True
            seen = self.seen(deployment_id)
            assert seen is not None, "no answer"
            assert seen["status"] in states, (seen["name"], seen["status"], seen["reason"])
            return True

        eventually_sync(there, within=RECOVERS_WITHIN, every=0.05)

    def expire_leases(self) -> None:
        """What the passing of a lease's time does, at once: for a server that is known to be dead."""
        self._run(_expire_leases)

    def leader(self) -> tuple[Server, int] | None:
        """The scheduler that holds the main cluster now, and the epoch; None while nobody does."""

        async def look(connection: Any) -> Any:
            return await connection.fetchrow(
                "SELECT m.host, e.epoch FROM leases l JOIN lease_epochs e USING (name) "
                "JOIN servers m ON m.name = l.holder WHERE l.name = $1 AND l.expires_at > now()",
                f"cluster:{self.cluster}",
            )

        row = self._run(look)
        if row is None:
            return None
        pid = int(row["host"].rpartition(":")[2])
        return next((one, row["epoch"]) for one in (*self.apis, *self.schedulers) if one.pid == pid)

    def alive(self) -> list[str]:
        """The instances of which something lives."""
        return self.eyes.alive()

    def check(self, *, quiet: bool = False) -> None:
        """All invariants now. Without `quiet` only while no server lives: it could act between two looks."""
        before = self.alive()
        rows = self.read()
        alive = [name for name in before if name in set(self.alive())]
        found = violations(rows, alive, quiet=quiet)
        found += [
            *self._watch.violations(rows),
            *self.ledger.violations(rows),
            *self.eyes.doubled(),
            *self._killed(),
        ]
        assert not found, "\n".join(found)

    def wrong_under_load(self) -> list[str]:
        """What is wrong now by the tables and the processes, while servers live and people ask."""
        accepted = dict(self.ledger.accepted)
        rows = self.read()
        told = Ledger(accepted, deleted=self.ledger.deleted)
        return [
            *violations(rows),
            *self._watch.violations(rows),
            *told.violations(rows),
            *self.eyes.doubled(),
            *self._killed(),
        ]

    def read(self) -> Rows:
        """The tables as they are now."""
        rows: Rows = self._run(read_postgresql)
        return rows

    def settle(self) -> None:
        """With a server that lives: everything ends, and nothing is left over or lost."""

        def at_rest() -> bool:
            rows = self.read()
            restless = [
                (row["name"], row["state"])
                for row in rows.deployments
                if row["state"] in ("QUEUED", "STARTING", "STOPPING", "BLOCKED")
            ]
            assert not restless, restless
            return True

        eventually_sync(at_rest, within=RECOVERS_WITHIN, every=0.1)
        eventually_sync(self._quietly_right, within=RECOVERS_WITHIN, every=0.2)

    def tally(self) -> str:
        """After `settle`, which has found nothing wrong: what that was about."""
        return (
            f"{len(self.ledger.accepted)} accepted, {len(self.ledger.maybe)} without an answer, 0 lost, "
            "0 doubled, 0 healthy workloads killed, all invariants hold"
        )

    def foreign_names(self) -> list[str]:
        """What somebody of another organization sees of ours (I12): nothing."""
        seen = self.ask(lambda client: client.deployments.find(), who="bob") or []
        return [one["name"] for one in seen]

    def _quietly_right(self) -> bool:
        self.check(quiet=True)
        assert not self.foreign_names()
        return True

    def _killed(self) -> list[str]:
        now = self._guardian_lives and self.eyes.lives_of(self.guardian)
        if self._guardian_lives <= now:
            return []
        return [f"healthy work was killed: {self._guardian_lives} is now {now}"]

    def _run(self, work: Callable[[Any], Any]) -> Any:
        async def connected() -> Any:
            connection = await asyncpg.connect(self._direct_url, timeout=60)
            try:
                return await work(connection)
            finally:
                await connection.close()

        return asyncio.run(connected())

    def end_everything(self) -> None:
        """Leave no process behind."""
        for server in (*self.apis, *self.schedulers):
            server.signal(signal.SIGCONT)
            server.signal(signal.SIGKILL)
        self.eyes.end_everything()


def cancelling(deployment_id: int) -> Callable[[Client], object]:
    return lambda client: client.deployments.cancel(deployment_id)


async def _expire_leases(connection: Any) -> None:
    await connection.execute("UPDATE leases SET expires_at = now()")
    await connection.execute("DELETE FROM servers")


@contextmanager
def rig_on(
    folder: Path,
    database_url: str,
    *,
    through: str | None = None,
    apis: int = 1,
    schedulers: int = 0,
    failpoints: str = "",
    engine: Api | None = None,
    **settings: str,
) -> Iterator[Rig]:
    """A furnished rig with a running server. `through`: the URL that the servers use instead.

    With `schedulers`, that many beside it do the work (under `failpoints`), and it only answers requests, as
    one of `apis`. With an `engine` workloads are containers there, else processes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    url = through or database_url
    eyes: Eyes = ProcessEyes(folder) if engine is None else ContainerEyes(engine)
    wanted: dict[str, Any] = {}
    if engine is not None:
        settings = {"DEFAULT_RUNTIME": "docker", "DOCKER_HOST": engine.endpoint, **settings}
        wanted = {"docker_image": IMAGE}
    rig = Rig(Server(folder, url, "api" if schedulers else "all", settings), database_url, eyes, wanted)
    rig.apis += [Server(folder, url, "api", settings) for _ in range(apis - 1)]
    rig.schedulers = [Server(folder, url, "scheduler", settings) for _ in range(schedulers)]
    try:
        for scheduler in rig.schedulers:
            scheduler.start(failpoints)
        for api in rig.apis:
            api.start()
        rig.furnish()
        yield rig
    finally:
        rig.end_everything()
