"""An explanation as lines: the reason, the shortfall, the suggestion, the preemption receipts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.text import Text

from hypervisor.cli.core.formatting import amounts, clock, number, state
from hypervisor.client.models import Explanation, Party, Receipt


def explanation_lines(name: str, explanation: Explanation) -> list[Text]:
    """The most important line first; empty parts are left out."""
    return [
        _heading(name, explanation),
        *_reason(explanation),
        *_ahead(explanation),
        *_dependencies(explanation),
        *_receipts(explanation),
    ]


def _heading(name: str, explanation: Explanation) -> Text:
    """Highlighted name and state, then the sentence, without a repeated name and state."""
    status = explanation["status"]
    sentence = explanation.get("sentence") or ""
    subject = f"{name} is {status}"
    rest = sentence.removeprefix(subject) if sentence.startswith(subject) else f": {sentence}"
    return Text.assemble((name, "bold"), " is ", state(status), rest)


def receipt_lines(receipt: Receipt) -> list[Text]:
    """One preemption: the preemptor, the victims, the reprieved deployments and the rule."""
    preemptor = receipt["preemptor"]
    lines = [
        Text.assemble(
            ("Preemption ", "bold"),
            f"at {clock(receipt['at'])} on {receipt.get('node', '?')}: ",
            (preemptor["name"], "bold"),
            f" (priority {preemptor['priority']}) needed the capacity",
        )
    ]
    lines += [
        Text(f"  evicted    {_victim(victim)}", style="yellow") for victim in receipt.get("victims") or []
    ]
    lines += [
        Text(f"  reprieved  {reprieved['name']}: {reprieved.get('why', '')}", style="dim")
        for reprieved in receipt.get("spared") or []
    ]
    if receipt.get("rule_sentence"):
        lines.append(Text(f"  rule       {receipt['rule_sentence']}"))
    if receipt.get("returns"):
        lines.append(Text(f"  afterwards {receipt['returns']}"))
    return lines


def _victim(victim: Party) -> str:
    lost = victim.get("lost_work_seconds")
    work = f", {number(round(lost, 1))} GPU- or CPU-seconds of work lost" if lost is not None else ""
    return f"{victim['name']} (priority {victim['priority']}{work})"


def _reason(explanation: Explanation) -> Iterator[Text]:
    reason: Mapping[str, Any] = explanation.get("reason") or {}
    missing = reason.get("shortfall") or {}
    if any(missing.values()):
        where = f" on {reason['nearest_node']}, the nearest node" if reason.get("nearest_node") else ""
        yield Text(f"  missing    {amounts(missing)}{where}")
    if reason.get("suggestion"):
        yield Text(f"  suggestion {reason['suggestion']}")


def _ahead(explanation: Explanation) -> Iterator[Text]:
    position = explanation.get("queue_position")
    if position:
        yield Text(f"  queue      position {position}")
    ahead = explanation.get("ahead") or []
    if ahead:
        yield Text("  ahead      " + ", ".join(f"{entry['name']} ({entry['priority']})" for entry in ahead))


def _dependencies(explanation: Explanation) -> Iterator[Text]:
    for parent in explanation.get("dependencies") or []:
        yield Text(f"  depends on {parent['name']}: {parent['condition']} ({parent['status']})")


def _receipts(explanation: Explanation) -> Iterator[Text]:
    for receipt in explanation.get("receipts") or []:
        yield from receipt_lines(receipt)
