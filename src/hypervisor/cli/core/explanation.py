"""An explanation as lines for people: the reason, the shortfall, the suggestion, the receipts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.text import Text

from hypervisor.cli.core.formatting import amounts, clock, number, state
from hypervisor.client.models import Explanation, Party, Receipt


def explanation_lines(name: str, explanation: Explanation) -> list[Text]:
    """Most important first; what there is nothing to say about is left out."""
    return [
        _heading(name, explanation),
        *_reason(explanation),
        *_ahead(explanation),
        *_dependencies(explanation),
        *_receipts(explanation),
    ]


def _heading(name: str, explanation: Explanation) -> Text:
    """Name and state stand out; a sentence that begins with them is not told twice."""
    status = explanation["status"]
    sentence = explanation.get("sentence") or ""
    told = f"{name} is {status}"
    rest = sentence.removeprefix(told) if sentence.startswith(told) else f": {sentence}"
    return Text.assemble((name, "bold"), " is ", state(status), rest)


def receipt_lines(receipt: Receipt) -> list[Text]:
    """One preemption: who, whom, by which rule, who was spared, how the victims return."""
    by = receipt["preemptor"]
    lines = [
        Text.assemble(
            ("Preemption ", "bold"),
            f"at {clock(receipt['at'])} on {receipt.get('node', '?')}: ",
            (by["name"], "bold"),
            f" (priority {by['priority']}) needed the room",
        )
    ]
    lines += [
        Text(f"  gave way   {_party(victim)}", style="yellow") for victim in receipt.get("victims") or []
    ]
    lines += [
        Text(f"  was spared {spared['name']}: {spared.get('why', '')}", style="dim")
        for spared in receipt.get("spared") or []
    ]
    if receipt.get("rule_sentence"):
        lines.append(Text(f"  rule       {receipt['rule_sentence']}"))
    if receipt.get("returns"):
        lines.append(Text(f"  afterwards {receipt['returns']}"))
    return lines


def _party(party: Party) -> str:
    lost = party.get("lost_work_seconds")
    work = f", {number(round(lost, 1))} GPU- or CPU-seconds at stake" if lost is not None else ""
    return f"{party['name']} (priority {party['priority']}{work})"


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
        yield Text(f"  queue      place {position}")
    ahead = explanation.get("ahead") or []
    if ahead:
        yield Text("  ahead      " + ", ".join(f"{each['name']} ({each['priority']})" for each in ahead))


def _dependencies(explanation: Explanation) -> Iterator[Text]:
    for each in explanation.get("dependencies") or []:
        yield Text(f"  depends on {each['name']}: {each['condition']} ({each['status']})")


def _receipts(explanation: Explanation) -> Iterator[Text]:
    for receipt in explanation.get("receipts") or []:
        yield from receipt_lines(receipt)
