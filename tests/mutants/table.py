"""The planted defects: what is replaced in which file, and which tests must fail then."""

from __future__ import annotations

from dataclasses import dataclass

HISTORIES = "tests/simulation/test_histories.py -k invariants"


@dataclass(frozen=True, slots=True)
class Mutant:
    """One defect in `src/hypervisor/<file>`, and the arguments of pytest that have to find it."""

    name: str
    file: str
    old: str
    new: str
    tests: str
    also: tuple[tuple[str, str, str], ...] = ()
    """Other replacements (file, old, new) of the same defect, where it stands in several places."""


MUTANTS = (
    Mutant(
        "the epoch predicate is dropped",
        "store/leases.py",
        "    if held != epoch:\n",
        "    if False:\n",
        "tests/component/control/scheduler/test_robustness.py -k 'older_epoch and sqlite'",
    ),
    Mutant(
        "the node lock is dropped",
        "control/allocations/capacity.py",
        "    .with_for_update(key_share=True)\n",
        "",
        "tests/component/store/test_row_locks.py -k summed_up",
    ),
    Mutant(
        "capacity is free at the request to stop",
        "control/scheduler/commit.py",
        '        reached("preempt_after_victims_before_reserve")\n',
        "        await _free_at_once(work, [one for id_ in victims for one in work.live[id_]])\n",
        HISTORIES,
    ),
    Mutant(
        "an instance is created before its intent is committed",
        "control/scheduler/loop.py",
        "            committed = await self._commit(view, made, fence)\n",
        "            await _create_early(self, view, made)\n"
        "            committed = await self._commit(view, made, fence)\n",
        HISTORIES,
    ),
    Mutant(
        'an error of the engine is read as "not found"',
        "control/reconciler/engine_pool.py",
        "            self.failed(engine, error)\n            return {}\n",
        "            self.failed(engine, error)\n            return dict.fromkeys(instances, ABSENT)\n",
        HISTORIES,
    ),
    Mutant(
        "freed capacity is not reserved",
        "scheduling/preemption/nominations.py",
        "        if not settled:\n            self._unsettled",
        "        self._state.release(made.claim)\n        if not settled:\n            self._unsettled",
        "tests/unit/scheduling/test_nominations.py",
        also=(("scheduling/preemption/nominations.py", "            self._state.release(held.claim)\n", ""),),
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
        "the pid alone is trusted",
        "runtimes/process/procfs.py",
        "        if process is None or process.is_dead or process.start_ticks != self.start_ticks:\n"
        "            return False\n"
        '        return instance.encode() in _read(f"/proc/{self.pid}/cmdline").split(b"\\0")\n',
        "        return process is not None and not process.is_dead\n",
        "tests/component/runtimes/process/test_adoption.py -k reused_pid",
    ),
    Mutant(
        "one list shows other organizations",
        "deployments/access/listing.py",
        "    if filters.organization_ids is not None:\n        return filters\n",
        "",
        "tests/component/deployments/test_lists.py -k 'only_the_callers and sqlite'",
    ),
    Mutant(
        "a role is accepted in a PATCH from anybody",
        "organizations/routes.py",
        "    user_id: UserId, body: MemberUpdate, access: AdminAccess, container: ContainerDep\n",
        "    user_id: UserId, body: MemberUpdate, access: ViewerAccess, container: ContainerDep\n",
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
        "the uses of an invite are read, then written",
        "organizations/repository.py",
        "    role = await session.scalar(\n        update(Invite)\n",
        "    return await _read_then_write(session, code_hash)\n"
        "    role = await session.scalar(\n        update(Invite)\n",
        "tests/component/store/test_row_locks.py -k invite",
    ),
)

APPENDED = {
    "capacity is free at the request to stop": """

from hypervisor.control.allocations.capacity import release as _release


async def _free_at_once(work, attempts):
    await _release(work.session, attempts)
""",
    "an instance is created before its intent is committed": """

from hypervisor.kernel.names import InstanceName as _Name
from hypervisor.kernel.resources import Resources as _Resources
from hypervisor.runtimes.protocol import LaunchSpec as _Spec, RuntimeUnavailable as _Unavailable


async def _create_early(scheduler, view, made):
    for one in made.plan.placements:
        name = str(_Name(scheduler._install, one.deployment_id, 1, one.replica))
        try:
            engine = scheduler._reconciler._engines.open((view.runtime, None))
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
    "the uses of an invite are read, then written": """

async def _read_then_write(session, code_hash):
    invite = await session.scalar(select(Invite).where(Invite.code_hash == code_hash))
    if invite is None or (invite.max_uses is not None and invite.uses >= invite.max_uses):
        return None
    invite.uses += 1
    return Role(invite.role)
""",
}
"""What a defect needs at the end of its file."""
