"""An installation for crash tests: servers that are killed, workloads, and a record of every response."""

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
from tests.chaos.server import RECOVERY_TIMEOUT, Server
from tests.chaos.workload_probe import ContainerProbe, ProcessProbe, WorkloadProbe
from tests.support.docker import IMAGE, Api
from tests.support.invariants import Ledger, Rows, Watch, read_postgresql, violations
from tests.support.people import PASSWORD
from tests.support.wait import eventually_sync


class Rig:
    """Servers and clients, the record of the responses, and checks of the database and the workloads."""

    def __init__(
        self, server: Server, direct_url: str, probe: WorkloadProbe, defaults: Mapping[str, Any]
    ) -> None:
        """`defaults` are the default fields of every submission."""
        self.server = server
        self.probe = probe
        self.apis = [server]
        """The servers that answer requests, round-robin."""
        self.ledger = Ledger()
        self.ids: dict[str, int] = {}
        """The id of each accepted deployment that was not deleted, by name."""
        self._direct_url = direct_url
        self._defaults = dict(defaults)
        self._tokens = {user: MemoryTokens() for user in ("ada", "bob")}
        self._monotonic = Watch()
        self._numbers = itertools.count(1)
        self._turns = itertools.count()
        self.schedulers: list[Server] = []
        self.cluster = self.small = 0
        self.canary = ""
        self._canary_lifetimes: set[str] = set()

    def set_up(self) -> None:
        """Create two users with organizations, two clusters, and a service that must survive."""
        for name, tokens in self._tokens.items():
            with Client(self.server.url, tokens=tokens) as client:
                client.accounts.register(name, f"{name}@example.org", PASSWORD)
                client.accounts.login(name, PASSWORD)
                client.organizations.create(f"lab-{name}")
        with Client(self.server.url, tokens=self._tokens["ada"]) as client:
            size = {"runtime": self.server.runtime, "total_cpu_cores": 8, "total_ram_gb": 8}
            self.cluster = client.clusters.create("main", size)["id"]
            self.small = client.clusters.create("small", {**size, "total_cpu_cores": 1})["id"]
        canary = self.submit(command=["sleep", "100000"], kind="service", preemptible=False)
        assert canary is not None
        self.reaches(canary, "RUNNING")
        self.canary = f"-{canary}-1-0"
        self._canary_lifetimes = self.probe.lifetimes_of(self.canary)
        assert self._canary_lifetimes

    def release_canary(self) -> None:
        """Allow the end of the canary service from now on."""
        self._canary_lifetimes = set()

    def request(self, action: Callable[[Client], Any], user: str = "ada") -> Any:
        """The response for a user; None without a response. Raises ApiError for a status below 500."""
        url = self.apis[next(self._turns) % len(self.apis)].url
        try:
            with Client(url, tokens=self._tokens[user]) as client:
                return action(client)
        except ApiError as error:
            if error.status >= 500:
                return None
            raise
        except (ClientError, httpx2.HTTPError):
            return None

    def request_or_ignore(self, action: Callable[[Client], Any]) -> None:
        """Send a request that may be refused."""
        with suppress(ApiError):
            self.request(action)

    def refresh(self) -> None:
        """Log in and exchange the refresh token."""
        with (
            suppress(httpx2.HTTPError),
            httpx2.Client(base_url=f"{self.server.url}/api/v1", timeout=30) as http,
        ):
            answer = http.post("/auth/login", data={"username": "bob", "password": PASSWORD}).json()
            http.post("/auth/refresh", json={"refresh_token": answer["refresh_token"]})

    def submit(self, **fields: Any) -> int | None:
        """Submit a deployment under a unique name; its id, or None without a response (it may exist)."""
        name = f"work-{next(self._numbers)}"
        defaults = {
            "cluster_id": self.cluster,
            "kind": "job",
            "required_cpu_cores": 0.25,
            "required_ram_gb": 0.1,
            **self._defaults,
        }
        self.ledger.maybe.add(name)
        created = self.request(lambda client: client.deployments.create({**defaults, **fields, "name": name}))
        if created is None:
            return None
        self.ledger.maybe.discard(name)
        self.ledger.accepted[name] = self.ids[name] = created["id"]
        return int(created["id"])

    def delete(self, deployment_id: int) -> None:
        """Request a deletion; the deployment may be deleted whatever the response."""
        name = next(name for name, id_ in list(self.ids.items()) if id_ == deployment_id)
        self.ledger.deleted.add(name)
        del self.ids[name]
        self.request(lambda client: client.deployments.delete(deployment_id))

    def deployment(self, deployment_id: int) -> Any:
        """The deployment as the API returns it; None without a response."""
        return self.request(lambda client: client.deployments.get(deployment_id))

    def reaches(self, deployment_id: int, *states: str, or_death: bool = False) -> None:
        """Wait until a deployment is in one of these states, or the server is dead where `or_death`."""

        def is_reached() -> bool:
            if or_death and not self.server.is_alive:
                return True
            deployment = self.deployment(deployment_id)
            assert deployment is not None, "no response"
            assert deployment["status"] in states, (
                deployment["name"],
                deployment["status"],
                deployment["reason"],
            )
            return True

        eventually_sync(is_reached, within=RECOVERY_TIMEOUT, every=0.05)

    def expire_leases(self) -> None:
        """Expire all leases at once; only when the server is dead."""
        self._run(_expire_leases)

    def leader(self) -> tuple[Server, int] | None:
        """The server that holds the lease of the main cluster and its epoch; None if the lease is free."""

        async def query(connection: Any) -> Any:
            return await connection.fetchrow(
                "SELECT m.host, e.epoch FROM leases l JOIN lease_epochs e USING (name) "
                "JOIN servers m ON m.name = l.holder WHERE l.name = $1 AND l.expires_at > now()",
                f"cluster:{self.cluster}",
            )

        row = self._run(query)
        if row is None:
            return None
        pid = int(row["host"].rpartition(":")[2])
        return next((server, row["epoch"]) for server in (*self.apis, *self.schedulers) if server.pid == pid)

    def alive(self) -> list[str]:
        """The instances with a live process or container."""
        return self.probe.alive()

    def check(self, *, quiet: bool = False) -> None:
        """Check all invariants. Without `quiet` no server may be alive: it could act between two reads."""
        before = self.alive()
        rows = self.read()
        alive = [name for name in before if name in set(self.alive())]
        violated = violations(rows, alive, quiet=quiet)
        violated += [
            *self._monotonic.violations(rows),
            *self.ledger.violations(rows),
            *self.probe.duplicates(),
            *self._canary_violations(),
        ]
        assert not violated, "\n".join(violated)

    def violations_under_load(self) -> list[str]:
        """The violations in tables and processes, while servers run and clients send requests."""
        accepted = dict(self.ledger.accepted)
        rows = self.read()
        ledger = Ledger(accepted, deleted=self.ledger.deleted)
        return [
            *violations(rows),
            *self._monotonic.violations(rows),
            *ledger.violations(rows),
            *self.probe.duplicates(),
            *self._canary_violations(),
        ]

    def read(self) -> Rows:
        """The tables as they are now."""
        rows: Rows = self._run(read_postgresql)
        return rows

    def settle(self) -> None:
        """Wait until all deployments have settled and all invariants hold. A server must be alive."""

        def is_at_rest() -> bool:
            rows = self.read()
            unsettled = [
                (row["name"], row["state"])
                for row in rows.deployments
                if row["state"] in ("QUEUED", "STARTING", "STOPPING", "BLOCKED")
            ]
            assert not unsettled, unsettled
            return True

        eventually_sync(is_at_rest, within=RECOVERY_TIMEOUT, every=0.1)
        eventually_sync(self._holds_at_rest, within=RECOVERY_TIMEOUT, every=0.2)

    def summary(self) -> str:
        """The result after a successful `settle`, as one line."""
        return (
            f"{len(self.ledger.accepted)} accepted, {len(self.ledger.maybe)} without a response, 0 lost, "
            "0 duplicated, 0 healthy workloads killed, all invariants hold"
        )

    def names_visible_to_others(self) -> list[str]:
        """The names of ada's deployments in a list for another organization (I12); must be empty."""
        visible = self.request(lambda client: client.deployments.find(), user="bob") or []
        return [deployment["name"] for deployment in visible]

    def _holds_at_rest(self) -> bool:
        self.check(quiet=True)
        assert not self.names_visible_to_others()
        return True

    def _canary_violations(self) -> list[str]:
        now = self._canary_lifetimes and self.probe.lifetimes_of(self.canary)
        if self._canary_lifetimes <= now:
            return []
        return [f"a healthy workload was killed: {self._canary_lifetimes} is now {now}"]

    def _run(self, action: Callable[[Any], Any]) -> Any:
        async def run_connected() -> Any:
            connection = await asyncpg.connect(self._direct_url, timeout=60)
            try:
                return await action(connection)
            finally:
                await connection.close()

        return asyncio.run(run_connected())

    def kill_all(self) -> None:
        """Kill all servers and workloads."""
        for server in (*self.apis, *self.schedulers):
            server.signal(signal.SIGCONT)
            server.signal(signal.SIGKILL)
        self.probe.kill_all()


def cancelling(deployment_id: int) -> Callable[[Client], object]:
    return lambda client: client.deployments.cancel(deployment_id)


async def _expire_leases(connection: Any) -> None:
    await connection.execute("UPDATE leases SET expires_at = now()")
    await connection.execute("DELETE FROM servers")


@contextmanager
def running_rig(
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
    """A rig with a running server. `through`: the database URL of the servers, if it differs.

    With `schedulers`, that many further servers run the loops (with `failpoints`), and the first server only
    answers requests, as one of `apis`. With an `engine`, workloads are its containers, else processes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    url = through or database_url
    probe: WorkloadProbe = ProcessProbe(folder) if engine is None else ContainerProbe(engine)
    defaults: dict[str, Any] = {}
    if engine is not None:
        settings = {"DEFAULT_RUNTIME": "docker", "DOCKER_HOST": engine.endpoint, **settings}
        defaults = {"docker_image": IMAGE}
    rig = Rig(Server(folder, url, "api" if schedulers else "all", settings), database_url, probe, defaults)
    rig.apis += [Server(folder, url, "api", settings) for _ in range(apis - 1)]
    rig.schedulers = [Server(folder, url, "scheduler", settings) for _ in range(schedulers)]
    try:
        for scheduler in rig.schedulers:
            scheduler.start(failpoints)
        for api in rig.apis:
            api.start()
        rig.set_up()
        yield rig
    finally:
        rig.kill_all()
