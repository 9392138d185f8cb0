"""A cluster shared from the command line, and used by the other organization, on a real server."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.people import newcomer
from tests.support.server import HypervisorServer


def test_a_cluster_is_offered_accepted_used_and_taken_back(
    shared_server: HypervisorServer, tmp_path: Path
) -> None:
    owner = newcomer(tmp_path, shared_server.url, "lender")
    guest = newcomer(tmp_path, shared_server.url, "borrower")
    owner.do("org", "create", "Lenders")
    guest.do("org", "create", "Borrowers")
    (borrowers,) = guest.ask("org", "list")
    owner.do("cluster", "create", "spare", "--cpu", "4", "--ram", "4", "--gpu", "2")

    offered = owner.do("cluster", "share", "spare", str(borrowers["id"]), "--gpu", "1").stdout
    assert "2 CPU, 2 GB, 1 GPU guaranteed" in offered
    (offer,) = guest.ask("cluster", "shares")
    assert offer["state"] == "offered"
    assert "accepted" in guest.do("cluster", "accept", str(offer["cluster_id"])).stdout

    assert [each["shared"] for each in guest.ask("cluster", "list")] == [True]
    guest.do("deploy", "borrowed", "--job", "--wait", "--", "true")
    assert "accepted" in owner.do("cluster", "shares", "spare").stdout
    owner.do("cluster", "unshare", "spare", str(borrowers["id"]))
    assert guest.ask("cluster", "list") == []
