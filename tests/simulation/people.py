"""The clients of a history: random calls to the services behind the routes, and a record of the responses."""

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
    """Sends one request after another to the running server."""

    def __init__(self, random: Random, note: Callable[[str], None]) -> None:
        self.ledger = Ledger()
        self._note = note
        self._random = random
        self._submitted = 0

    async def send_random_request(self, server: Server) -> None:
        """Send one request of a random kind and record its response, if any."""
        send = self._random.choices(
            (self._submit, self._command, self._delete, self._edit, self._change_node),
            (10, 5, 1, 1, 2),
        )[0]
        await send(server)

    async def reopen(self, server: Server) -> None:
        """Uncordon every node, so that the queue can run."""
        for node_id in range(1, NODES + 1):
            await self._cordon(server, node_id, False)

    async def _submit(self, server: Server) -> None:
        requests = [self._random_request() for _ in range(self._random.choice((1, 1, 1, 2, 4)))]
        names = [item["name"] for item in requests]
        bodies = [DeploymentCreate.model_validate(item) for item in requests]

        async def transaction(session: WriteSession) -> list[int]:
            submission = submit.Submission(ADA, bodies, server.encryptor, server.clock.now())
            (outcome,) = await submit.submit(session, [submission])
            if isinstance(outcome, Exception):
                raise outcome
            return [item.deployment.id for item in outcome.created]

        self.ledger.maybe.update(names)
        answer = await self._send(server, f"submit {requests}", transaction)
        if answer is None:
            return
        self.ledger.maybe.difference_update(names)
        if isinstance(answer, HypervisorError):
            self.ledger.refused.update(names)
        else:
            self.ledger.accepted.update(zip(names, answer, strict=True))

    def _random_request(self) -> dict[str, Any]:
        """A request: mostly small jobs; sometimes a service, a gang, a dependent or a failing job."""
        pick, chance = self._random.choice, self._random.random
        self._submitted += 1
        labels = {"simulate/start-delay": str(pick((0, 0, 3)))}
        fields: dict[str, Any] = {
            "name": f"work-{self._submitted}",
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
        if fields["kind"] == "job":
            labels["simulate/duration"] = str(pick((1, 10, 60)))
        if chance() < 0.2:
            labels["simulate/exit-code"] = "1"
            fields |= {"restart_policy": pick(("never", "on-failure")), "max_retries": 1}
            fields["max_retries"] = 0 if fields["restart_policy"] == "never" else 1
        if chance() < 0.05:
            labels["simulate/fail-start"] = "no such image"
        if chance() < 0.2:
            labels["simulate/ignore-term"] = "true"
        if chance() < 0.1:
            fields["max_runtime_seconds"] = 15
        if chance() < 0.15:
            fields |= {
                "replicas": 2,
                "gang_timeout_seconds": pick((10, 300)),
                "replica_placement": pick(("pack", "spread")),
            }
        if self.ledger.accepted and chance() < 0.25:
            parent = pick(sorted(self.ledger.accepted.values()))
            fields["depends_on"] = [{"deployment": parent, "condition": pick(("succeeded", "running"))}]
            fields["on_failure"] = pick(("cancel", "hold"))
        return fields

    async def _command(self, server: Server) -> None:
        if (access := self._random_deployment()) is None:
            return
        command = self._random.choice((Command.STOP, Command.STOP, Command.CANCEL, Command.START))

        async def transaction(session: WriteSession) -> str:
            result = await commands.apply_command(session, access, command, now=server.clock.now())
            return result.state

        await self._send(server, f"{command} {access.deployment_id}", transaction)

    async def _delete(self, server: Server) -> None:
        if (access := self._random_deployment()) is None:
            return
        force = self._random.random() < 0.5

        async def transaction(session: WriteSession) -> bool:
            return await commands.delete(session, access, force=force, now=server.clock.now())

        name = next(n for n, id_ in self.ledger.accepted.items() if id_ == access.deployment_id)
        self.ledger.deleted.add(name)
        answer = await self._send(server, f"delete {access.deployment_id} force={force}", transaction)
        if isinstance(answer, HypervisorError) and answer.status != 404:
            self.ledger.deleted.discard(name)

    async def _edit(self, server: Server) -> None:
        if (access := self._random_deployment()) is None:
            return
        changes: dict[str, Any] = {"priority": self._random.choice((100, 500, 900))}
        if self._random.random() < 0.5:
            changes = {"required_cpu_cores": self._random.choice((1, 2))}
        body = DeploymentUpdate.model_validate(changes)

        async def transaction(session: WriteSession) -> int:
            changed = await update.update(
                session, access, body, encryptor=server.encryptor, now=server.clock.now()
            )
            return changed.generation

        await self._send(server, f"edit {access.deployment_id} {changes}", transaction)

    async def _change_node(self, server: Server) -> None:
        node_id = self._random.randint(1, NODES)
        action = self._random.choice(("cordon", "open", "open", "drain", "resize"))
        if action in ("cordon", "open"):
            await self._cordon(server, node_id, action == "cordon")
            return
        size = NodeUpdate(cpu_cores=self._random.choice((2, 4, 6)), gpu_count=self._random.choice((1, 2)))

        async def transaction(session: WriteSession) -> str:
            now = server.clock.now()
            if action == "drain":
                await nodes.drain(session, CLUSTER, node_id, OCCUPANTS, now=now)
            else:
                await resizing.update(session, CLUSTER, node_id, size, OCCUPANTS, force=True, now=now)
            return "done"

        await self._send(server, f"{action} node {node_id} {size.model_dump(exclude_none=True)}", transaction)

    async def _cordon(self, server: Server, node_id: int, cordoned: bool) -> None:
        async def transaction(session: WriteSession) -> str:
            await nodes.cordon(session, CLUSTER, node_id, cordoned=cordoned, now=server.clock.now())
            return "done"

        await self._send(server, f"{'cordon' if cordoned else 'open'} node {node_id}", transaction)

    def _random_deployment(self) -> DeploymentAccess | None:
        ids = sorted(self.ledger.accepted.values())
        if not ids:
            return None
        return DeploymentAccess(Deployment(id=self._random.choice(ids), organization_id=1), ADA)

    async def _send(self, server: Server, action: str, transaction: Work[T]) -> T | HypervisorError | None:
        """Do what the route does: one transaction, then hints. None if the server died meanwhile."""
        answer = await self._serve(server, transaction)
        self._note(f"{action}: {answer!r}")
        return answer

    async def _serve(self, server: Server, transaction: Work[T]) -> T | HypervisorError | None:
        async def run() -> T:
            result = await server.database.transact(transaction)
            for topic in ("scheduler", "reconciler", "maintenance"):
                server.wakeup.notify(topic)
            return result

        try:
            return await server.call(run())
        except BatchItemError as batch_error:
            return batch_error.error
        except HypervisorError as error:
            return error
        except (DBAPIError, sqlite3.Error, asyncio.CancelledError):
            if not server.peer.dead:
                raise
            return None
