"""The planted defects: the file, the replaced source text, and the tests that must fail."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

HISTORIES = "tests/simulation/test_histories.py -k invariants"


@dataclass(frozen=True, slots=True)
class Mutant:
    """One defect in `src/hypervisor/<file>`, and the pytest arguments of the tests that must fail with it.

    `old` must occur exactly once in the file; `tests/unit/test_mutants.py` checks every entry.
    """

    name: str
    file: str
    old: str
    new: str
    tests: str
    also: tuple[tuple[str, str, str], ...] = ()
    """Further replacements (file, old, new), for a defect in several places."""

    @property
    def replacements(self) -> tuple[tuple[str, str, str], ...]:
        """All replacements (file, old, new) of the defect."""
        return ((self.file, self.old, self.new), *self.also)


class SourceChanged(Exception):
    """A snippet does not occur exactly once in its file: the table needs an update."""


def mutated_sources(sources: Path, mutant: Mutant) -> dict[Path, str]:
    """The changed files below `sources` with their new text. Raises SourceChanged."""
    texts: dict[Path, str] = {}
    for file, old, new in mutant.replacements:
        path = sources / file
        text = texts.get(path) or (path.read_text() if path.exists() else "")
        if (count := text.count(old)) != 1:
            raise SourceChanged(f"{mutant.name!r}: {count} occurrences in {file} of {old!r}")
        texts[path] = text.replace(old, new)
    texts[sources / mutant.file] += APPENDED.get(mutant.name, "")
    return texts


MUTANTS = (
    Mutant(
        "the epoch predicate is dropped",
        "store/leases.py",
        "    if current != epoch:\n",
        "    if False:\n",
        "tests/component/control/scheduler/test_robustness.py -k 'older_epoch and sqlite'",
    ),
    Mutant(
        "the node lock is dropped",
        "control/allocations/capacity.py",
        "    .with_for_update(key_share=True)\n",
        "",
        "tests/component/store/test_row_locks.py -k summed_after_its_lock",
    ),
    Mutant(
        "capacity is freed at the stop request",
        "control/scheduler/commit.py",
        '    reached("preempt_after_victims_before_reserve")\n',
        "    await _free_at_once(commit, [attempt for id_ in victims for attempt in commit.live[id_]])\n",
        HISTORIES,
    ),
    Mutant(
        "an instance is created before its intent is committed",
        "control/scheduler/loop.py",
        "            committed = await self._commit(view, decision, fence)\n",
        "            await _create_early(self, view, decision)\n"
        "            committed = await self._commit(view, decision, fence)\n",
        HISTORIES,
    ),
    Mutant(
        'an error of the engine is read as "not found"',
        "control/reconciler/engine_pool.py",
        "self.mark_unreachable(engine, error)\n            return {}\n",
        "self.mark_unreachable(engine, error)\n            return dict.fromkeys(instances, ABSENT)\n",
        HISTORIES,
    ),
    Mutant(
        "capacity is freed before an ended instance is removed",
        "control/reconciler/actions.py",
        "        if runtime.ends_are_final:\n",
        "        if True:\n",
        HISTORIES,
    ),
    Mutant(
        "freed capacity is not reserved",
        "scheduling/preemption/nominations.py",
        "        if not confirmed:\n",
        "        self._capacity.release_claim(nomination.claim)\n        if not confirmed:\n",
        "tests/unit/scheduling/test_nominations.py",
        also=(
            (
                "scheduling/preemption/nominations.py",
                "            self._capacity.release_claim(held.claim)\n",
                "",
            ),
        ),
    ),
    Mutant(
        "equal priority evicts",
        "scheduling/preemption/candidates.py",
        "self.evictable & (self.table.priority < priority)",
        "self.evictable & (self.table.priority <= priority)",
        "tests/unit/scheduling/test_preemption.py",
        also=(
            (
                "scheduling/preemption/single_node_search.py",
                "if candidate.priority < priority and evictable[candidate.row]\n            ]",
                "if candidate.priority <= priority and evictable[candidate.row]\n            ]",
            ),
            (
                "scheduling/preemption/single_node_search.py",
                "if candidate.priority < priority and evictable[candidate.row]:\n",
                "if candidate.priority <= priority and evictable[candidate.row]:\n",
            ),
        ),
    ),
    Mutant(
        "a queued deployment keeps its place without its parent",
        "deployments/state/settle.py",
        "            and_(Deployment.state == State.QUEUED.value, Deployment.id.in_(_UNMET_EDGE)),\n",
        "",
        HISTORIES,
        also=(
            (
                "control/scheduler/conditions.py",
                "        return summarize_dependencies(parents).state is State.QUEUED\n",
                "        return True\n",
            ),
        ),
    ),
    Mutant(
        "a commit does not check dependencies",
        "control/scheduler/conditions.py",
        "        return summarize_dependencies(parents).state is State.QUEUED\n",
        "        return True\n",
        "tests/component/deployments/test_lost_conditions.py -k 'commit_checks and sqlite'",
    ),
    Mutant(
        "a commit does not lock the parents of what it starts",
        "control/scheduler/conditions.py",
        "lock_in_order(session, {*pending, *victims, *dependents}, parents)",
        "lock_in_order(session, {*pending, *victims, *dependents})",
        "tests/component/control/scheduler/test_dependency_races.py",
    ),
    Mutant(
        "the pid alone is trusted",
        "runtimes/process/procfs.py",
        " and process.start_ticks == self.start_ticks\n\n    def resume",
        "\n\n    def resume",
        "tests/component/runtimes/process/test_adoption.py -k reused_pid",
        also=(
            (
                "runtimes/process/procfs.py",
                '        return instance.encode() in _read(f"/proc/{self.pid}/cmdline").split(b"\\0")\n',
                "        return True\n",
            ),
        ),
    ),
    Mutant(
        "one list shows other organizations",
        "deployments/access/listing.py",
        "    if filters.organization_ids is not None:\n        return filters\n",
        "",
        "tests/component/deployments/test_lists.py -k 'only_the_callers and sqlite'",
    ),
    Mutant(
        "any member may change a role",
        "organizations/routes.py",
        "    user_id: UserId, body: MemberUpdate, access: AdminAccess, services: ServicesDep\n",
        "    user_id: UserId, body: MemberUpdate, access: ViewerAccess, services: ServicesDep\n",
        "tests/component/organizations/test_organizations.py -k 'only_admins and sqlite'",
    ),
    Mutant(
        "the rotation of refresh tokens is not atomic",
        "identity/repository.py",
        "    return await session.scalar(\n        update(RefreshToken)\n",
        "    return await _read_then_write(session, token_hash, now)\n"
        "    return await session.scalar(\n        update(RefreshToken)\n",
        "tests/component/store/test_row_locks.py -k refresh_token",
    ),
    Mutant(
        "the use count of an invite is read, then written",
        "organizations/repository.py",
        "    role = await session.scalar(\n        update(Invite)\n",
        "    return await _read_then_write(session, code_hash)\n"
        "    role = await session.scalar(\n        update(Invite)\n",
        "tests/component/store/test_row_locks.py -k invite",
    ),
)

APPENDED = {
    "capacity is freed at the stop request": """

from hypervisor.control.allocations.capacity import release as _release


async def _free_at_once(commit, attempts):
    await _release(commit.session, attempts)
""",
    "an instance is created before its intent is committed": """

from hypervisor.kernel.names import InstanceName as _Name
from hypervisor.kernel.resources import Resources as _Resources
from hypervisor.runtimes.protocol import LaunchSpec as _Spec, RuntimeUnavailable as _Unavailable


async def _create_early(scheduler, view, decision):
    for placement in decision.plan.placements:
        name = str(_Name(scheduler._install, placement.deployment_id, 1, placement.replica))
        try:
            engine = scheduler._reconciler._engine_pool.open((view.runtime, None))
            await engine.start(_Spec(name, _Resources(0, 0, 0)))
        except _Unavailable:
            pass
""",
    'an error of the engine is read as "not found"': """

from hypervisor.kernel.observation import ABSENT
""",
    "the rotation of refresh tokens is not atomic": """

async def _read_then_write(session, token_hash, now):
    token = await session.scalar(
        select(RefreshToken).where(RefreshToken.token_hash == token_hash, RefreshToken.used_at.is_(None))
    )
    if token is None:
        return None
    token.used_at = now
    return token.session_id
""",
    "the use count of an invite is read, then written": """

async def _read_then_write(session, code_hash):
    invite = await session.scalar(select(Invite).where(Invite.code_hash == code_hash))
    if invite is None or (invite.max_uses is not None and invite.uses >= invite.max_uses):
        return None
    invite.uses += 1
    return Role(invite.role)
""",
}
"""Source text that a defect needs at the end of its file, by the name of the mutant."""
