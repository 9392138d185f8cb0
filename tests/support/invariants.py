"""The invariants, recomputed from the rows and from the running instances, never from counters.

One list for the simulation, the crash tests and the soak, on both databases. `QUERIES` are plain SQL, `Rows`
has their results, and `violations` returns a sentence for each violation (I1 to I11) that begins with its
number:

I1 the allocations on a node fit it, and every live instance has an allocation; I2 a GPU never carries more
than 1000 milli, a whole-GPU claim is alone; I3 an accepted request exists once (see `Ledger`); I4 at most one
live instance for each replica; I5 after quiet, the live instances are the desired ones; I6 epochs only rise;
I7 each change of state is a legal edge with exactly one event; I8 counters equal a recount; I9 a preemptor
has a higher priority than its victims, and the capacity freed for it is used; I10 nothing is queued or placed
while a dependency is not met; I11 without arrivals, preemptions end (checked by the caller).
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hypervisor.kernel.names import InstanceName
from hypervisor.lifecycle.dependencies import Condition, DependencyStatus, dependency_status
from hypervisor.lifecycle.states import ENDED, LIVE, State, is_legal

Row = Mapping[str, Any]

QUERIES = {
    "nodes": "SELECT id, cpu_milli, ram_mib, gpu_count, used_cpu_milli, used_ram_mib FROM nodes",
    "gpus": "SELECT node_id, gpu_index, used_milli FROM node_gpus",
    "allocations": "SELECT attempt_id, node_id, cpu_milli, ram_mib FROM allocations",
    "claims": "SELECT attempt_id, node_id, gpu_index, milli FROM gpu_claims",
    "attempts": "SELECT id, deployment_id, number, replica, instance, started_at, stop_requested_at, "
    "finished_at FROM attempts",
    "deployments": "SELECT id, name, state, state_after_stop, generation, attempts_made, replicas, priority "
    "FROM deployments",
    "dependencies": "SELECT deployment_id, depends_on_id, condition FROM dependencies",
    "events": "SELECT id, at, deployment_id, type, from_state, to_state, code, data FROM events "
    "WHERE type IN ('deployment.state', 'deployment.updated', 'deployment.preemption', 'deployment.deleted') "
    "OR type LIKE 'node.%' ORDER BY id",
    "epochs": "SELECT name, epoch FROM lease_epochs",
    "decisions": "SELECT id, cluster_id, epoch FROM decisions ORDER BY id",
}

MOVED = "deployment.state"
UPDATED = "deployment.updated"
PREEMPTION = "deployment.preemption"
DELETED = "deployment.deleted"


@dataclass(frozen=True, slots=True)
class Rows:
    """The data of the invariants, read in one transaction."""

    nodes: Sequence[Row]
    gpus: Sequence[Row]
    allocations: Sequence[Row]
    claims: Sequence[Row]
    attempts: Sequence[Row]
    deployments: Sequence[Row]
    dependencies: Sequence[Row]
    events: Sequence[Row]
    epochs: Sequence[Row]
    decisions: Sequence[Row]

    @property
    def live_attempts(self) -> list[Row]:
        """Attempts that have not finished."""
        return [attempt for attempt in self.attempts if attempt["finished_at"] is None]


def read_sqlite(connection: sqlite3.Connection) -> Rows:
    """Read from a SQLite file; other connections may write meanwhile."""
    connection.row_factory = sqlite3.Row
    connection.execute("BEGIN")
    try:
        return Rows(**{name: connection.execute(query).fetchall() for name, query in QUERIES.items()})
    finally:
        connection.rollback()


async def read_postgresql(connection: Any) -> Rows:
    """Read through a connection of asyncpg."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        return Rows(**{name: await connection.fetch(query) for name, query in QUERIES.items()})


def violations(
    rows: Rows, alive: Iterable[str] | None = None, *, quiet: bool = False, checked_event: int = 0
) -> list[str]:
    """All violations. `alive` are the instances that really run now; None if unknown.

    `quiet`: there were no requests and faults for long enough that everything should have settled.
    `checked_event`: the last event of an earlier check. Preemptions up to it are not checked again: the
    dependent from which the preemptor inherited its priority may have been deleted since.
    """
    found = [
        *_capacity(rows),
        *_devices(rows),
        *_attempts(rows),
        *_counters(rows),
        *_histories(rows),
        *_preemptions(rows, quiet=quiet, checked_event=checked_event),
        *_dependencies(rows),
        *_decisions(rows),
    ]
    if alive is not None:
        found += _instances(rows, list(alive), quiet=quiet)
    if quiet:
        found += _rest(rows)
    return found


@dataclass(slots=True)
class Ledger:
    """The responses to clients (I3): each request has a unique name."""

    accepted: dict[str, int] = field(default_factory=dict)
    """The id of each accepted request by its name."""
    maybe: set[str] = field(default_factory=set)
    """Names of requests without a response: each may or may not have been executed."""
    refused: set[str] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)
    """Names whose deletion was requested, whatever the response."""

    def violations(self, rows: Rows) -> list[str]:
        by_name = Counter(row["name"] for row in rows.deployments)
        ids = {row["name"]: row["id"] for row in rows.deployments}
        found = [f"I3: {name} exists {count} times" for name, count in by_name.items() if count > 1]
        for name, id_ in self.accepted.items():
            if name not in self.deleted and ids.get(name) != id_:
                found.append(f"I3: {name} was accepted as {id_}, but there is {ids.get(name)}")
        found += [f"I3: {name} was refused, but exists" for name in self.refused if name in ids]
        return found


@dataclass(slots=True)
class Watch:
    """Values that only rise or never change, compared between checks (I6, I7)."""

    epochs: dict[str, int] = field(default_factory=dict)
    generations: dict[int, int] = field(default_factory=dict)
    ended: dict[int, Any] = field(default_factory=dict)

    def violations(self, rows: Rows) -> list[str]:
        found: list[str] = []
        for row in rows.epochs:
            if row["epoch"] < self.epochs.get(row["name"], 0):
                found.append(f"I6: epoch of {row['name']} fell to {row['epoch']}")
            self.epochs[row["name"]] = row["epoch"]
        for row in rows.deployments:
            if row["generation"] < self.generations.get(row["id"], 0):
                found.append(f"I7: generation of deployment {row['id']} fell to {row['generation']}")
            self.generations[row["id"]] = row["generation"]
        for row in rows.attempts:
            previous = self.ended.get(row["id"])
            if previous is not None and row["finished_at"] != previous:
                found.append(f"I7: the end of attempt {row['id']} was rewritten")
            if row["finished_at"] is not None:
                self.ended[row["id"]] = row["finished_at"]
        return found


def _capacity(rows: Rows) -> Iterator[str]:
    held: dict[int, list[int]] = defaultdict(lambda: [0, 0])
    for item in rows.allocations:
        held[item["node_id"]][0] += item["cpu_milli"]
        held[item["node_id"]][1] += item["ram_mib"]
    for node in rows.nodes:
        cpu, ram = held[node["id"]]
        if cpu > node["cpu_milli"] or ram > node["ram_mib"]:
            yield f"I1: node {node['id']} of {node['cpu_milli']} m, {node['ram_mib']} MiB has {cpu}, {ram}"
        if (cpu, ram) != (node["used_cpu_milli"], node["used_ram_mib"]):
            yield f"I8: node {node['id']} counts {node['used_cpu_milli']} m, its allocations have {cpu} m"
    live, allocated = (
        {item["id"] for item in rows.live_attempts},
        {item["attempt_id"] for item in rows.allocations},
    )
    if live != allocated:
        yield f"I1: live attempts {sorted(live - allocated)} hold nothing, {sorted(allocated - live)} hold on"


def _devices(rows: Rows) -> Iterator[str]:
    claims: dict[tuple[int, int], list[int]] = defaultdict(list)
    for item in rows.claims:
        claims[item["node_id"], item["gpu_index"]].append(item["milli"])
    for gpu in rows.gpus:
        key = (gpu["node_id"], gpu["gpu_index"])
        carried = claims.pop(key, [])
        if sum(carried) > 1000 or (len(carried) > 1 and 1000 in carried):
            yield f"I2: GPU {key} carries {carried}"
        if sum(carried) != gpu["used_milli"]:
            yield f"I8: GPU {key} counts {gpu['used_milli']}, its claims have {sum(carried)}"
    yield from (f"I2: GPU {key} is claimed and not there" for key in claims)


def _attempts(rows: Rows) -> Iterator[str]:
    doubled = Counter((item["deployment_id"], item["replica"]) for item in rows.live_attempts)
    yield from (f"I4: {count} live attempts of {key}" for key, count in doubled.items() if count > 1)
    holding = {item["id"] for item in rows.deployments if State(item["state"]) in LIVE}
    having = {item["deployment_id"] for item in rows.live_attempts}
    if holding != having:
        yield f"I7: live without an attempt: {sorted(holding - having)}, not live: {sorted(having - holding)}"


def _counters(rows: Rows) -> Iterator[str]:
    last: dict[int, int] = defaultdict(int)
    for item in rows.attempts:
        last[item["deployment_id"]] = max(last[item["deployment_id"]], item["number"])
    for row in rows.deployments:
        if row["attempts_made"] != last[row["id"]]:
            yield f"I8: deployment {row['id']} counts {row['attempts_made']} attempts, made {last[row['id']]}"


def _histories(rows: Rows) -> Iterator[str]:
    """Each history is a chain of legal edges with one event per change, and ends in the state of the row."""
    present = {row["id"]: row for row in rows.deployments}
    state: dict[int, str | None] = {}
    changes: Counter[int] = Counter()
    deleted: set[int] = set()
    for event in rows.events:
        id_ = event["deployment_id"]
        if id_ in deleted:
            yield f"I7: deployment {id_} was deleted before event {event['id']}"
        if event["type"] == UPDATED:
            changes[id_] += 1
        elif event["type"] == DELETED:
            deleted.add(id_)
        if event["type"] != MOVED:
            continue
        source, target = event["from_state"], event["to_state"]
        if id_ not in state:
            state[id_] = target
            if source is not None:
                yield f"I7: the history of {id_} begins with {source}"
            continue
        if source != state[id_] or not _is_edge(source, target):
            yield f"I7: deployment {id_} went {source} to {target} after {state[id_]} (event {event['id']})"
        state[id_] = target
        changes[id_] += 1
    for id_, row in present.items():
        if state.get(id_) != row["state"]:
            yield f"I7: deployment {id_} is {row['state']}, its last event says {state.get(id_)}"
        if changes[id_] != row["generation"]:
            yield f"I7: deployment {id_} has generation {row['generation']} and {changes[id_]} events"


def _is_edge(source: str, target: str) -> bool:
    return is_legal(State(source), State(target)) or source == target == State.STOPPING


def _preemptions(rows: Rows, *, quiet: bool, checked_event: int) -> Iterator[str]:
    effective = _lent_priorities(rows)
    open_since: dict[int, Row] = {}
    for event in rows.events:
        id_ = event["deployment_id"]
        if event["type"] == PREEMPTION:
            open_since[id_] = event
            if event["id"] > checked_event:
                yield from _unjust(event, effective)
        elif event["type"].startswith("node."):
            open_since.clear()
        elif event["type"] == UPDATED or event["to_state"] != State.QUEUED:
            # The deployment was placed, ended or changed: the capacity freed for it is released.
            open_since.pop(id_, None)
            if event["to_state"] == State.STARTING:
                for other in [item for item, freed in open_since.items() if _takes(event, freed, effective)]:
                    del open_since[other]
    if quiet:
        deleted = open_since.keys() - {row["id"] for row in rows.deployments}
        for id_ in open_since.keys() - deleted:
            yield f"I9: the preemption for {id_} (event {open_since[id_]['id']}) placed nobody"


def _takes(placed: Row, freed: Row, effective: Mapping[int, int]) -> bool:
    """Whether a placement rightly takes the capacity freed for another deployment: on its nodes, and with
    precedence by priority or age. The priority of a deleted deployment is unknown.
    """
    item, other = placed["deployment_id"], freed["deployment_id"]
    goes_first = item not in effective or (-effective[item], item) < (-effective.get(other, 0), other)
    on = _data(placed)
    nodes = {on["node"], *(replica["node"] for replica in on.get("replicas", ()))}
    return goes_first and not nodes.isdisjoint(_data(freed)["nodes"])


def _unjust(event: Row, effective: Mapping[int, int]) -> Iterator[str]:
    receipt = _data(event)
    own = receipt["preemptor"]
    priority = max(own["priority"], effective.get(event["deployment_id"], 0))
    for victim in receipt["victims"]:
        if victim["rule"].startswith("priority") and victim["priority"] >= priority:
            yield f"I9: {own['id']} of priority {priority} evicts {victim['id']} of {victim['priority']}"


def _data(event: Row) -> Any:
    data = event["data"]
    return json.loads(data) if isinstance(data, str) else data


def _lent_priorities(rows: Rows) -> dict[int, int]:
    """The effective priority of each deployment: the highest of its own and its dependents, also indirect."""
    effective = {row["id"]: row["priority"] for row in rows.deployments}
    for _ in rows.dependencies:
        previous = dict(effective)
        for item in rows.dependencies:
            parent, child = item["depends_on_id"], item["deployment_id"]
            effective[parent] = max(effective.get(parent, 0), effective.get(child, 0))
        if effective == previous:
            break
    return effective


def _dependencies(rows: Rows) -> Iterator[str]:
    """Whenever a deployment is queued or placed, all its dependencies are met at that commit."""
    parents: dict[int, list[Row]] = defaultdict(list)
    for item in rows.dependencies:
        parents[item["deployment_id"]].append(item)
    if not parents:
        return
    state: dict[int, str] = {}
    edited = {
        e["deployment_id"] for e in rows.events if e["type"] == UPDATED and "depends_on" in str(e["data"])
    }
    for event in rows.events:
        id_ = event["deployment_id"]
        if event["type"] != MOVED:
            continue
        state[id_] = event["to_state"]
        if _needs_its_parents(event) and id_ not in edited:
            yield from _unmet(id_, event["to_state"], parents.get(id_, ()), state)
    present = {row["id"]: row["state"] for row in rows.deployments}
    for id_, own in present.items():
        if own == State.QUEUED:
            yield from _unmet(id_, own, parents.get(id_, ()), present)


def _needs_its_parents(event: Row) -> bool:
    """Whether the dependencies must be met at this change of state. An attempt that ends is queued first."""
    if event["to_state"] == State.QUEUED:
        return event["from_state"] in (None, State.BLOCKED, *ENDED)
    return bool(event["to_state"] == State.STARTING)


def _unmet(id_: int, own: str, edges: Iterable[Row], state: Mapping[int, str]) -> Iterator[str]:
    for edge in edges:
        parent = state.get(edge["depends_on_id"])
        if parent is None or not _is_met(edge["condition"], parent):
            yield f"I10: {id_} is {own} while {edge['depends_on_id']} is {parent}"


def _is_met(condition: str, parent: str) -> bool:
    return dependency_status(Condition(condition), State(parent)) is DependencyStatus.MET


def _decisions(rows: Rows) -> Iterator[str]:
    highest: dict[int, int] = {}
    for item in rows.decisions:
        if item["epoch"] < highest.get(item["cluster_id"], 0):
            yield f"I6: decision {item['id']} was committed under the old epoch {item['epoch']}"
        highest[item["cluster_id"]] = max(item["epoch"], highest.get(item["cluster_id"], 0))
    top = max((row["epoch"] for row in rows.epochs), default=0)
    yield from (
        f"I6: decision {d['id']} is of epoch {d['epoch']}" for d in rows.decisions if d["epoch"] > top
    )


def _instances(rows: Rows, alive: Sequence[str], *, quiet: bool) -> Iterator[str]:
    names = {name: InstanceName.parse(name) for name in alive}
    replicas = Counter((item.deployment_id, item.replica) for item in names.values() if item is not None)
    yield from (f"I4: {count} live instances of {key}" for key, count in replicas.items() if count > 1)
    live = {item["instance"]: item for item in rows.live_attempts}
    yield from (f"I1: {name} runs without an allocation" for name in alive if name not in live)
    if quiet:
        yield from (f"I5: {name} should run and does not" for name in live if name not in names)


def _rest(rows: Rows) -> Iterator[str]:
    for row in rows.deployments:
        if row["state"] in (State.STARTING, State.STOPPING):
            yield f"I5: deployment {row['id']} is still {row['state']}"
    for item in rows.live_attempts:
        if item["started_at"] is None or item["stop_requested_at"] is not None:
            yield f"I5: {item['instance']} is still to be started or stopped"
