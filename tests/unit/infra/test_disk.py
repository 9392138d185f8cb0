"""When a disk counts as nearly full, and when it no longer does."""

from __future__ import annotations

from pathlib import Path

import pytest

from hypervisor.infra.disk import MIB, DiskGuard, free_bytes


class Disk:
    """A disk with as much room as the test says."""

    free = 1000 * MIB

    def __call__(self, _folder: Path) -> int:
        return self.free


@pytest.fixture
def disk() -> Disk:
    return Disk()


def test_it_closes_below_the_limit_and_opens_a_tenth_above_it(disk: Disk) -> None:
    guard = DiskGuard(Path("/data"), 100, free=disk)
    assert guard.obstacle() is None
    disk.free = 100 * MIB - 1
    told = guard.obstacle()
    assert told == (
        "the disk of /data has less than 100 MiB left, so nothing new is started there; what runs goes on"
    )
    disk.free = 109 * MIB
    assert guard.obstacle() == told
    disk.free = 111 * MIB
    assert guard.obstacle() is None
    disk.free = 101 * MIB
    assert guard.obstacle() is None


def test_without_a_limit_nothing_is_refused(disk: Disk) -> None:
    disk.free = 0
    assert DiskGuard(Path("/data"), 0, free=disk).obstacle() is None


def test_a_disk_that_cannot_be_asked_is_not_known_to_be_full() -> None:
    def broken(_folder: Path) -> int:
        raise OSError("input/output error")

    assert DiskGuard(Path("/data"), 100, free=broken).obstacle() is None


def test_a_folder_that_is_not_there_yet_is_on_the_disk_of_its_parent(tmp_path: Path) -> None:
    assert free_bytes(tmp_path / "not" / "yet") > 0
