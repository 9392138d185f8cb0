"""When the disk guard blocks new starts, and when it allows them again."""

from __future__ import annotations

from pathlib import Path

import pytest

from hypervisor.infra.disk import MIB, DiskGuard, free_bytes


class Disk:
    """A disk with a free space that the test sets."""

    free = 1000 * MIB

    def __call__(self, _folder: Path) -> int:
        return self.free


@pytest.fixture
def disk() -> Disk:
    return Disk()


def test_it_blocks_below_the_limit_and_opens_a_tenth_above_it(disk: Disk) -> None:
    guard = DiskGuard(Path("/data"), 100, free=disk)
    assert guard.obstacle() is None
    disk.free = 100 * MIB - 1
    reason = guard.obstacle()
    assert reason == (
        "the disk of /data has less than 100 MiB free, so no new process starts there; "
        "running processes continue"
    )
    disk.free = 109 * MIB
    assert guard.obstacle() == reason
    disk.free = 111 * MIB
    assert guard.obstacle() is None
    disk.free = 101 * MIB
    assert guard.obstacle() is None


def test_a_limit_of_0_blocks_nothing(disk: Disk) -> None:
    disk.free = 0
    assert DiskGuard(Path("/data"), 0, free=disk).obstacle() is None


def test_an_unreadable_disk_blocks_nothing() -> None:
    def broken(_folder: Path) -> int:
        raise OSError("input/output error")

    assert DiskGuard(Path("/data"), 100, free=broken).obstacle() is None


def test_a_missing_folder_is_on_the_disk_of_its_parent(tmp_path: Path) -> None:
    assert free_bytes(tmp_path / "not" / "yet") > 0
