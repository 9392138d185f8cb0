"""`hypervisor-as-service`: a command gets the properties that systemd has for the unit, with its drop-ins."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

HELPER = Path(__file__).parents[2] / "deploy/systemd/hypervisor-as-service"
SYSTEMCTL = """\
#!/bin/sh
# Answers `systemctl show --value --property=NAME UNIT` from files that a test has written.
cat "$PROPERTIES/${3#--property=}" 2>/dev/null || true
"""
UNIT = {
    "LoadState": "loaded",
    "ExecStart": "{ path=/opt/hypervisor/bin/hypervisor ; argv[]=hypervisor serve ; ignore_errors=no }",
    "User": "hypervisor",
    "Group": "hypervisor",
    "SupplementaryGroups": "docker video",
    "WorkingDirectory": "/var/lib/hypervisor",
    "UMask": "0077",
    "Environment": 'DATA_DIR=/var/lib/hypervisor "SITE=two words"',
    "EnvironmentFiles": "/etc/hypervisor/hypervisor.env (ignore_errors=yes)\n"
    "/etc/my own/*.env (ignore_errors=no)",
}
"""What `systemctl show` prints for the unit with drop-ins."""


def test_commands_run_with_the_settings_of_the_unit_and_its_drop_ins(tmp_path: Path) -> None:
    options = _as_service(tmp_path, UNIT, "doctor", "--json", "a b")
    assert options[-4:] == ["/opt/hypervisor/bin/hypervisor", "doctor", "--json", "a b"]
    properties = [option.removeprefix("--property=") for option in options if "--property=" in option]
    files = [value for value in properties if value.startswith("EnvironmentFile=")]
    assert files == [
        "EnvironmentFile=-/etc/hypervisor/hypervisor.env",
        "EnvironmentFile=/etc/my own/*.env",
    ]
    for name in UNIT.keys() - {"LoadState", "ExecStart", "EnvironmentFiles"}:
        assert f"{name}={UNIT[name]}" in properties


def test_a_unit_without_drop_ins_needs_none(tmp_path: Path) -> None:
    options = _as_service(tmp_path, {"LoadState": "loaded", "ExecStart": UNIT["ExecStart"]}, "migrate")
    assert [option for option in options if "--property" in option] == []
    assert options[-2:] == ["/opt/hypervisor/bin/hypervisor", "migrate"]


def test_a_unit_that_is_not_installed_is_named(tmp_path: Path) -> None:
    result = _run_as_service(tmp_path, {"LoadState": "not-found"}, "doctor", UNIT="hypervisor-api@1")
    assert result.returncode == 1
    assert "hypervisor-api@1" in result.stderr


def _as_service(folder: Path, unit: dict[str, str], *command: str) -> list[str]:
    """The arguments with which the helper calls `systemd-run`."""
    result = _run_as_service(folder, unit, *command)
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def _run_as_service(
    folder: Path, unit: dict[str, str], *command: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    for name, value in unit.items():
        (folder / name).write_text(f"{value}\n")
    for name, program in (("systemctl", SYSTEMCTL), ("systemd-run", "#!/bin/sh\nprintf '%s\\n' \"$@\"\n")):
        (folder / name).write_text(program)
        (folder / name).chmod(0o755)
    variables = {"PATH": f"{folder}:{os.environ['PATH']}", "PROPERTIES": str(folder), **environment}
    return subprocess.run(
        ["sh", str(HELPER), *command], capture_output=True, text=True, check=False, env=variables
    )
