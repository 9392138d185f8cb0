"""Named moments at which a test may make this process die, stall or fail; nothing happens at them otherwise.

`hypervisor.infra.failpoints` says what is to happen and where. Here are only the names and the hook, so that
every room can mark its moments.
"""

from __future__ import annotations

from collections.abc import Callable

POINTS = frozenset(
    {
        "lease_before_renew",
        "lease_after_renew",
        "plan_before_lock",
        "plan_after_lock",
        "plan_before_commit",
        "plan_after_commit",
        "preempt_after_victims_before_reserve",
        "intent_after_commit",
        "runtime_before_create",
        "runtime_after_create_before_ack",
        "runtime_after_start_before_ack",
        "status_before_write",
        "status_after_write",
        "stop_before_call",
        "stop_after_call",
        "delete_before_row",
        "delete_after_row",
        "gc_before_remove",
        "notify_before_publish",
        "invite_after_check_before_consume",
        "refresh_after_revoke_before_issue",
    }
)

_hook: Callable[[str], None] | None = None


def reached(point: str) -> None:
    """Mark a moment; costs one comparison. Under test this may raise, stand still, or never return."""
    if _hook is not None:
        _hook(point)


def install(hook: Callable[[str], None] | None) -> None:
    """Call `hook` with each moment from now on; None: no more."""
    global _hook
    _hook = hook
