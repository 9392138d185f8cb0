"""The credentials file: readable by the owner only, one session per server, locked between processes."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest

from hypervisor.cli.core.credentials import Credentials, FileTokens, default_path
from hypervisor.cli.core.failures import CommandFailed
from hypervisor.client import Tokens
from tests.support.wait import PROMPT


@pytest.fixture
def credentials(tmp_path: Path) -> Credentials:
    return Credentials(tmp_path / "config" / "hypervisor" / "credentials.json")


def test_only_the_owner_may_read(credentials: Credentials) -> None:
    credentials.save("http://one", Tokens("a", "r"))
    assert stat.S_IMODE(credentials.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(credentials.path.parent.stat().st_mode) == 0o700
    assert [path.name for path in credentials.path.parent.iterdir()] == ["credentials.json"]


def test_the_next_save_restores_the_file_mode(credentials: Credentials) -> None:
    credentials.save("http://one", Tokens("a"))
    credentials.path.chmod(0o644)
    credentials.save("http://one", Tokens("b"))
    assert stat.S_IMODE(credentials.path.stat().st_mode) == 0o600


def test_each_server_has_its_session_and_the_latest_is_the_default(credentials: Credentials) -> None:
    credentials.save("http://one", Tokens("a", "r"))
    credentials.save("http://two", Tokens("b"))
    assert credentials.tokens("http://one") == Tokens("a", "r")
    assert credentials.tokens("http://two") == Tokens("b", None)
    assert credentials.default_url == "http://two"


def test_removing_one_session_keeps_the_others(credentials: Credentials) -> None:
    credentials.save("http://one", Tokens("a"))
    credentials.save("http://two", Tokens("b"))
    FileTokens(credentials, "http://two").save(None)
    assert credentials.tokens("http://two") is None
    assert credentials.tokens("http://one") == Tokens("a")


@pytest.mark.parametrize("content", ["", "not json", "[]", '{"servers": {"http://one": 3}}'])
def test_a_damaged_file_is_refused_and_not_overwritten(credentials: Credentials, content: str) -> None:
    credentials.path.parent.mkdir(parents=True)
    credentials.path.write_text(content)
    with pytest.raises(CommandFailed, match=f"{credentials.path} is damaged: delete it"):
        credentials.tokens("http://one")
    with pytest.raises(CommandFailed, match="is damaged"):
        credentials.save("http://one", Tokens("a"))
    assert credentials.path.read_text() == content


def test_renewal_is_exclusive(credentials: Credentials) -> None:
    first, second = (FileTokens(credentials, "http://one") for _ in range(2))
    order: list[str] = []
    waiting = threading.Event()

    def other() -> None:
        waiting.set()
        with second.exclusive():
            order.append("second")

    with first.exclusive():
        thread = threading.Thread(target=other)
        thread.start()
        assert waiting.wait(PROMPT)
        order.append("first")
    thread.join(PROMPT)
    assert order == ["first", "second"]


def test_the_default_path_follows_xdg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", "/somewhere")
    assert default_path() == Path("/somewhere/hypervisor/credentials.json")
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", "/home/ada")
    assert default_path() == Path("/home/ada/.config/hypervisor/credentials.json")


def test_an_empty_home_is_like_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("HOME", "")
    path = default_path()
    assert path is not None
    assert path.is_absolute()
