"""The rule of an eviction as a sentence, for receipts. The sentence names no organization."""

from __future__ import annotations

from hypervisor.scheduling.plan_result import Eviction, PreemptionRule


def rule_sentence(eviction: Eviction) -> str:
    """Why the eviction was legal, as a sentence."""
    if eviction.rule is PreemptionRule.RECLAIM:
        return "reclaim: within its organization's guarantee, from an organization above its guarantee"
    compared = f"priority {eviction.preemptor_priority} over {eviction.victim_priority}"
    if eviction.rule is PreemptionRule.FAIR_SHARE:
        return f"{compared}, of an organization with a larger share"
    return compared
