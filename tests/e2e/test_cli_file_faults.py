"""What the server refuses in a deployment file, with file, line and field."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.cli_user import registered_user
from tests.support.server import HypervisorServer

BATCH = """\
- name: a
  kind: jobb
- name: b
  cpu: -1
  ports: [80,
    70000]
  env:
    A-B: 1
  on_failure: explode
  depends_on:
    - a
    - {deployment: a, condition: done}
"""
FAULTS = [
    "2: kind: must be 'service' or 'job', not \"jobb\"",
    "4: cpu: must be at least 0, not -1",
    "6: ports[1]: must be at most 65535, not 70000",
    '8: env.A-B: "A-B" does not match ^[A-Za-z_][A-Za-z0-9_]*$',
    "9: on_failure: must be 'cancel' or 'hold', not \"explode\"",
    "12: depends_on[1].condition: must be 'succeeded' or 'running', not \"done\"",
]


@pytest.mark.parametrize("plan", [[], ["--plan"]])
def test_each_fault_has_its_line(shared_server: HypervisorServer, tmp_path: Path, plan: list[str]) -> None:
    person = registered_user(tmp_path, shared_server.url, f"faulty{len(plan)}")
    person.run_ok("org", "create", f"Faults {len(plan)}")
    person.run_ok("cluster", "create", "lab", "--cpu", "4", "--ram", "4")
    file = tmp_path / "work.yaml"
    file.write_text(BATCH)
    outcome = person.run("deploy", "-f", str(file), *plan)
    expected = FAULTS[:1] if plan else FAULTS
    assert outcome.code == 2
    assert sorted(outcome.stderr.splitlines()) == sorted(f"error: {file}:{fault}" for fault in expected)
