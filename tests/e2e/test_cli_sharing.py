"""A cluster that is shared with another organization on the command line, on a real server."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.cli_user import registered_user
from tests.support.server import HypervisorServer


def test_a_share_is_offered_accepted_used_and_withdrawn(
    shared_server: HypervisorServer, tmp_path: Path
) -> None:
    owner = registered_user(tmp_path, shared_server.url, "lender")
    guest = registered_user(tmp_path, shared_server.url, "borrower")
    owner.run_ok("org", "create", "Lenders")
    guest.run_ok("org", "create", "Borrowers")
    (borrowers,) = guest.run_json("org", "list")
    owner.run_ok("cluster", "create", "spare", "--cpu", "4", "--ram", "4", "--gpu", "2")

    offered = owner.run_ok("cluster", "share", "spare", str(borrowers["id"]), "--gpu", "1").stdout
    assert "2 CPU, 2 GB, 1 GPU guaranteed" in offered
    (offer,) = guest.run_json("cluster", "shares")
    assert offer["state"] == "offered"
    assert "accepted" in guest.run_ok("cluster", "accept", str(offer["cluster_id"])).stdout

    assert [each["shared"] for each in guest.run_json("cluster", "list")] == [True]
    guest.run_ok("deploy", "borrowed", "--job", "--wait", "--", "true")
    assert "accepted" in owner.run_ok("cluster", "shares", "spare").stdout
    owner.run_ok("cluster", "unshare", "spare", str(borrowers["id"]))
    assert guest.run_json("cluster", "list") == []
