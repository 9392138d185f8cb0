"""`hypervisor replay` of a decision that needs the solver."""

from __future__ import annotations

import base64
import itertools
import sys
from types import SimpleNamespace

import pytest

from hypervisor.cli.core.session import Session
from hypervisor.cli.main import run
from hypervisor.scheduling.decision_codec.encoding import encode, plan_digest
from hypervisor.scheduling.plan import plan
from hypervisor.scheduling.policy import Policy
from tests.support.scheduling import NOW, Node, Pending, World, cpu

pytest.importorskip("ortools", reason="OR-tools is not installed (the extra `optimal`)")

POLICY = Policy(optimizer_steps=3_000, solver="exact")


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Serve one decision of the solver. Returns the list of printed replay results."""
    nodes = (Node(1, cpu=10_000, ram=65_536, gpus=0), Node(2, cpu=10_000, ram=65_536, gpus=0))
    sizes = zip(itertools.count(1), (5, 4, 3, 2, 6), strict=False)
    pending = tuple(Pending(number, cpu(cores), 500, created_at=NOW) for number, cores in sizes)
    snapshot = World(nodes, pending=pending).snapshot()
    stored = encode(snapshot, POLICY)
    decision = {
        "id": 3,
        "at": "2026-01-01T00:00:00Z",
        "snapshot": base64.b64encode(stored.blob).decode(),
        "snapshot_hash": stored.digest,
        "plan_hash": plan_digest(plan(snapshot, POLICY)),
    }
    printed: list[object] = []
    client = SimpleNamespace(clusters=SimpleNamespace(decision=lambda _, snapshot: decision))
    session = SimpleNamespace(client=client, show=lambda found, *_: printed.append(found["equal"]))
    monkeypatch.setattr(Session, "of", lambda _: session)
    return printed


def test_the_solver_reproduces_the_plan(shown: list[object]) -> None:
    assert run(["replay", "3"]) == 0
    assert shown == [True]


def test_without_the_solver_the_error_line_has_the_install_command(
    shown: list[object], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ortools", None)
    assert run(["replay", "3"]) == 1
    assert capsys.readouterr().err == (
        "error: cannot replay decision 3 on this machine: solver 'exact' needs OR-tools, which is not "
        "installed: pip install ortools, or the extra `optimal` of this package\n"
    )
    assert shown == []
