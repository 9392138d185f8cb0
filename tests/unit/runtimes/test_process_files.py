"""Files that a workload replaced or locked, as a user without the capabilities of root sees them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.plain_user import as_plain_user

PROGRAM = """
import sys
from pathlib import Path
from hypervisor.runtimes.process import owned_files
{statement}
"""

LOCKED = {
    "read-only tree": "mkdir -p a/b; touch a/b/c; chmod -R a-w .",
    "umask 777": "umask 777; mkdir x; chmod 700 x; mkdir x/y; chmod 0 x",
    "mode 0": "mkdir -p a/b; touch a/b/c; chmod 0 a/b a .",
    "many": "for n in 1 2 3 4 5; do mkdir -p d$n/e; touch d$n/e/f; done; chmod -R a-rwx .",
    "deep": 'python3 -c \'import os\nfor _ in range(3000): os.mkdir("d"); os.chdir("d")\'',
    "links": "ln -s ../kept link; mkdir a; ln -s ../../kept a/link; chmod a-w a .",
}


@pytest.mark.parametrize("locked", LOCKED)
def test_a_locked_tree_is_deleted_and_nothing_outside_it(tmp_path: Path, locked: str) -> None:
    tree, kept = tmp_path / "tree", tmp_path / "kept"
    tree.mkdir()
    kept.mkdir()
    (kept / "file").touch()
    kept.chmod(0o500)
    subprocess.run(["sh", "-c", LOCKED[locked]], cwd=tree, check=True)
    run_as_plain_user("owned_files.delete(Path(sys.argv[1]))", tree)
    assert not tree.exists()
    assert [path.name for path in kept.iterdir()] == ["file"]
    assert kept.stat().st_mode & 0o777 == 0o500


def test_a_locked_directory_is_moved(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir(mode=0o500)
    (tmp_path / "trash").mkdir()
    run_as_plain_user(
        "p = Path(sys.argv[1]); owned_files.move(p, p.parent / 'trash' / 'x')", tmp_path / "tree"
    )
    assert (tmp_path / "trash" / "x").is_dir()


def test_a_locked_file_in_a_locked_directory_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "state").write_text("text")
    (folder / "state").chmod(0)
    folder.chmod(0)
    run_as_plain_user("assert owned_files.read(Path(sys.argv[1]) / 'state') == 'text'", folder)


def run_as_plain_user(statement: str, path: Path) -> None:
    argv = [sys.executable, "-c", PROGRAM.format(statement=statement), str(path)]
    subprocess.run(as_plain_user(argv), check=True)
