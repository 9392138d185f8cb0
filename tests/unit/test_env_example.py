"""`.env.example` shows the defaults of the settings, and examples that the settings accept."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from hypervisor.settings import Settings

TEXT = (Path(__file__).parents[2] / ".env.example").read_text(encoding="utf-8")
DEFAULTS = re.findall(r"^# ([A-Z_]+)=(.*)$", TEXT, re.MULTILINE)
EXAMPLES = re.findall(r"^# e\.g\. ([A-Z_]+)=(.*)$", TEXT, re.MULTILINE)


def shown(value: object) -> str:
    """A default as it is written in the file."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def test_every_setting_has_one_line_with_its_default() -> None:
    defaults = {name.upper(): shown(field.default) for name, field in Settings.model_fields.items()}
    assert sorted(name for name, _ in DEFAULTS) == sorted(defaults)
    assert dict(DEFAULTS) == defaults


@pytest.mark.parametrize(("name", "value"), EXAMPLES)
def test_an_example_is_accepted_and_differs_from_the_default(name: str, value: str) -> None:
    values: dict[str, Any] = {name.lower(): value}
    settings = Settings(_env_file=None, **values)
    assert shown(getattr(settings, name.lower())) == value
    assert value != dict(DEFAULTS)[name]


def test_a_copy_without_the_comments_changes_nothing(tmp_path: Path) -> None:
    copy = tmp_path / ".env"
    copy.write_text("".join(f"{name}={value}\n" for name, value in DEFAULTS if name != "SECRET_KEY"))
    loaded, expected = Settings(_env_file=copy), Settings(_env_file=None)
    for name in Settings.model_fields:
        value = getattr(loaded, name)
        assert (value or None) == (getattr(expected, name) or None), name
