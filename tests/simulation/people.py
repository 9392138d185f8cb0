"""What people ask of an installation in a history: the services behind the routes, at random, with a memory
of what was answered.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any, TypeVar

from sqlalchemy.exc import DBAPIError

from hypervisor.clusters import nodes, resizing
from hypervisor.clusters.policy import ClusterAccess
from hypervisor.clusters.schemas import NodeUpdate
from hypervisor.deployments.access.policy import DeploymentAccess
from hypervisor.deployments.schemas.requests import DeploymentCreate, DeploymentUpdate
from hypervisor.deployments.spec import submit, update
from hypervisor.deployments.spec.dependency_refs import BatchItemError
from hypervisor.deployments.state import commands
from hypervisor.deployments.state.drain import WorkloadDrainer
from hypervisor.errors import HypervisorError
from hypervisor.identity.principal import OrganizationRole, Principal
from hypervisor.kernel.roles import Role
from hypervisor.lifecycle.commands import Command
from hypervisor.store.database import WriteSession
from hypervisor.store.tables import Deployment
from tests.simulation.installation import NODES, Server
from tests.support.invariants import Ledger

T = TypeVar("T")
Work = Callable[[WriteSession], Awaitable[T]]

ADA = Principal(1, "ada", False, "-", {1: OrganizationRole(1, "lab", Role.ADMIN)})
CLUSTER = ClusterAccess(1, 1, ADA)
OCCUPANTS = WorkloadDrainer()


class People:
    """They send one request after another, each to the server that is there."""

    def __init__(self, random: Random, note: Callable[[str], None]) -> None:
        self.ledger = Ledger()
        self._note = note
        self._random = random
        self._made = 0

    async def ask_something(self, server: Server) -> None:
        """One request, of any kind; its answer, or that there was none, is kept."""
        ask = self._random.choices(
            (self._submit, self._command, self._delete, self._edit, self._handle_node),
            (10, 5, 1, 1, 2),
        )[0]
        await ask(server)

    async def reopen(self, server: Server) -> None:
        """Open every node again, so that what waits can run."""
        for node_id in range(1, NODES + 1):
            await self._cordon(server, node_id, False)

    async def _submit(self, server: Server) -> None:
        requests = [self._wanted() for _ in range(self._random.choice((1, 1, 1, 2, 4)))]
        names = [one["name"] for one in requests]
        bodies = [DeploymentCreate.model_validate(one) for one in requests]

        async def work(session: WriteSession) -> list[int]:
            wanted = submit.Submission(ADA, bodies, server.encryptor, server.clock.now())
            (outcome,) = await submit.submit(session, [wanted])
            if isinstance(outcome, Exception):
                raise outcome
            return [one.deployment.id for one in outcome.made]

        self.ledger.maybe.update(names)
        answer = await self._send(server, f"submit {requests}", work)
        if answer is None:
            return
        self.ledger.maybe.difference_update(names)
        if isinstance(answer, HypervisorError):
            self.ledger.refused.update(names)
        else:
            self.ledger.accepted.update(zip(names, answer, strict=True))

    def _wanted(self) -> dict[str, Any]:
        """A request: mostly small jobs, now and then a service, a gang, a child, one that fails."""
        pick, chance = self._random.choice, self._random.random
        self._made += 1
        labels = {"simulate/start-delay": str(pick((0, 0, 3)))}
        wanted: dict[str, Any] = {
            "name": f"work-{self._made}",
            "cluster_id": 1,
            "kind": pick(("job", "job", "job", "service")),
            "required_cpu_cores": pick((0.5, 1, 2, 4)),
            "required_ram_gb": pick((0.5, 2, 6)),
            "required_gpu_count": pick((0, 0, 0.3, 0.5, 1, 2)),
            "priority": pick((100, 500, 500, 750, 900)),
            "grace_period_seconds": pick((0, 5)),
            "preemptible": chance() < 0.9,
            "labels": labels,
        }
        if wanted["kind"] == "job":
            labels["simulate/duration"] = str(pick((1, 10, 60)))
        if chance() < 0.2:
            labels["simulate/exit-code"] = "1"
            wanted |= {"restart_policy": pick(("never", "on-failure")), "max_retries": 1}
            wanted["max_retries"] = 0 if wanted["restart_policy"] == "never" else 1
        if chance() < 0.05:
            labels["simulate/fail-start"] = "no such image"
        if chance() < 0.2:
            labels["simulate/ignore-term"] = "true"
        if chance() < 0.1:
            wanted["max_runtime_seconds"] = 15
        if chance() < 0.15:
            wanted |= {
                "replicas": 2,
                "gang_timeout_seconds": pick((10, 300)),
                "placement": pick(("pack", "spread")),
            }
        if self.ledger.accepted and chance() < 0.25:
            parent = pick(sorted(self.ledger.accepted.values()))
            wanted["depends_on"] = [{"deployment": parent, "condition": pick(("succeeded", "running"))}]
            wanted["on_failure"] = pick(("cancel", "hold"))
        return wanted

    async def _command(self, server: Server) -> None:
        if (access := self._one_of_ours()) is None:
            return
        command = self._random.choice((Command.STOP, Command.STOP, Command.CANCEL, Command.START))

        async def work(session: WriteSession) -> str:
            done = await commands.apply_command(session, access, command, now=server.clock.now())
            return done.state

        await self._send(server, f"{command} {access.deployment_id}", work)

    async def _delete(self, server: Server) -> None:
        if (access := self._one_of_ours()) is None:
            return
        force = self._random.random() < 0.5

        async def work(session: WriteSession) -> bool:
            return await commands.delete(session, access, force=force, now=server.clock.now())

        name = next(n for n, id_ in self.ledger.accepted.items() if id_ == access.deployment_id)
        self.ledger.deleted.add(name)
        answer = await self._send(server, f"delete {access.deployment_id} force={force}", work)
        if isinstance(answer, HypervisorError) and answer.status != 404:
            self.ledger.deleted.discard(name)

    async def _edit(self, server: Server) -> None:
        if (access := self._one_of_ours()) is None:
            return
        change: dict[str, Any] = {"priority": self._random.choice((100, 500, 900))}
        if self._random.random() < 0.5:
            change = {"required_cpu_cores": self._random.choice((1, 2))}
        body = DeploymentUpdate.model_validate(change)

        async def work(session: WriteSession) -> int:
            changed = await update.update(
                session, access, body, encryptor=server.encryptor, now=server.clock.now()
            )
            return changed.generation

        await self._send(server, f"edit {access.deployment_id} {change}", work)

    async def _handle_node(self, server: Server) -> None:
        node_id = self._random.randint(1, NODES)
        what = self._random.choice(("cordon", "open", "open", "drain", "resize"))
        if what in ("cordon", "open"):
            await self._cordon(server, node_id, what == "cordon")
            return
        size = NodeUpdate(cpu_cores=self._random.choice((2, 4, 6)), gpu_count=self._random.choice((1, 2)))

        async def work(session: WriteSession) -> str:
            now = server.clock.now()
            if what == "drain":
                await nodes.drain(session, CLUSTER, node_id, OCCUPANTS, now=now)
            else:
                await resizing.update(session, CLUSTER, node_id, size, OCCUPANTS, force=True, now=now)
            return "done"

        await self._send(server, f"{what} node {node_id} {size.model_dump(exclude_none=True)}", work)

    async def _cordon(self, server: Server, node_id: int, cordoned: bool) -> None:
        async def work(session: WriteSession) -> str:
            await nodes.cordon(session, CLUSTER, node_id, cordoned=cordoned, now=server.clock.now())
            return "done"

        await self._send(server, f"{'cordon' if cordoned else 'open'} node {node_id}", work)

    def _one_of_ours(self) -> DeploymentAccess | None:
        ids = sorted(self.ledger.accepted.values())
        if not ids:
            return None
        return DeploymentAccess(Deployment(id=self._random.choice(ids), organization_id=1), ADA)

    async def _send(self, server: Server, what: str, work: Work[T]) -> T | HypervisorError | None:
        """What the route makes of it: one transaction, then hints. None: the server died over it."""
        answer = await self._serve(server, work)
        self._note(f"{what}: {answer!r}")
        return answer

    async def _serve(self, server: Server, work: Work[T]) -> T | HypervisorError | None:
        async def serve() -> T:
            done = await server.database.transact(work)
            for topic in ("scheduler", "reconciler", "janitor"):
                server.wakeup.notify(topic)
            return done

        try:
            return await server.call(serve())
        except BatchItemError as refused:
            return refused.error
        except HypervisorError as error:
            return error
        except (DBAPIError, sqlite3.Error, asyncio.CancelledError):
            if not server.peer.dead:
                raise
            return None
