"""Failpoints: named points in the code at which a crash test makes the process die, stall or fail.

`hypervisor.infra.failpoints` defines the actions. This module has only the names and the hook, so that every
package can mark its failpoints. Outside of tests nothing happens there.
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
        "end_before_remove",
        "end_after_remove",
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
    """Mark a failpoint; costs one comparison. In a crash test this may raise, sleep, or never return."""
    if _hook is not None:
        _hook(point)


def install(hook: Callable[[str], None] | None) -> None:
    """Call `hook` at each failpoint from now on; None removes the hook."""
    global _hook
    _hook = hook
