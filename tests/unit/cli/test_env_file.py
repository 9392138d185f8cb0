"""The `.env` file: damaged lines are named, and misspelt settings are found without false alarms."""

from __future__ import annotations

from pathlib import Path

import pytest

from hypervisor.cli.core.configuration import load_settings
from hypervisor.cli.core.env_file import Misspelt, misspelt_settings
from hypervisor.errors import StartupError
from hypervisor.settings import Settings


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"PORT=1\n# \xe9t\xe9\n", ".env, line 2: the byte 0xe9 is not UTF-8; save the file as UTF-8"),
        (b"\xff\xfeP\x00", ".env, line 1: the byte 0xff is not UTF-8; save the file as UTF-8"),
        (b"PORT=1\n\n\nmy secret words\n", ".env, line 4: not NAME=VALUE; correct the line"),
        (b"=3\n", ".env, line 1: not NAME=VALUE; correct the line"),
        (b"\xef\xbb\xbfPORT=1\n", ".env begins with a byte order mark; save the file as UTF-8 without it"),
    ],
)
def test_a_damaged_file_is_refused_with_its_line(folder: Path, content: bytes, sentence: str) -> None:
    (folder / ".env").write_bytes(content)
    with pytest.raises(StartupError) as refused:
        load_settings()
    assert str(refused.value) == sentence


def test_a_valid_file_is_read(folder: Path) -> None:
    (folder / ".env").write_text("# a comment\nexport PORT=9001\nSITE='a b'\n\nFOREIGN=1\n")
    settings = load_settings()
    assert (settings.port, settings.site) == (9001, "a b")


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("HOST", "", "HOST: is empty; set a value, or unset it to use 127.0.0.1"),
        ("HOST", " ", "HOST: is empty; set a value, or unset it to use 127.0.0.1"),
        ("DATA_DIR", "", "DATA_DIR: is empty; set a value, or unset it to use hypervisor-data"),
        ("PORT", "", "PORT: is empty; set a value, or unset it to use the default"),
        ("ROLE", "", "ROLE: is empty; set a value, or unset it to use the default"),
        ("PORT", "http", "PORT: must be a whole number, not 'http'"),
        ("PORT", "99999", "PORT: must be less than or equal to 65535, not '99999'"),
        ("SCHEDULER_INTERVAL", "soon", "SCHEDULER_INTERVAL: must be a number, not 'soon'"),
        ("ACCESS_LOG", "perhaps", "ACCESS_LOG: must be true or false, not 'perhaps'"),
        ("METRICS", "yes", "METRICS: must be 'on' or 'off', not 'yes'"),
    ],
)
def test_an_invalid_value_is_one_plain_sentence(
    name: str, value: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(StartupError) as refused:
        load_settings()
    assert str(refused.value) == sentence


def test_a_misspelt_setting_is_found_with_the_nearest_name(folder: Path) -> None:
    (folder / ".env").write_text("DATABSE_URL=x\nrate_limt=1\nPOSTGRES_PASSWORD=x\nLISTEN=x\nEXTRAS=x\n")
    assert misspelt_settings(environment={"PUBLC_URL": "x", "PATH": "/bin", "HOME": "/"}) == [
        Misspelt("DATABSE_URL", "DATABASE_URL", ".env"),
        Misspelt("rate_limt", "RATE_LIMIT", ".env"),
        Misspelt("PUBLC_URL", "PUBLIC_URL", "the environment"),
    ]


def test_a_name_beside_the_correct_one_is_foreign() -> None:
    assert misspelt_settings(environment={"DATABASE_URI": "x", "DATABASE_URL": "y"}) == []


def test_usual_variables_are_no_false_alarm() -> None:
    usual = """
        HOSTNAME HOSTTYPE USER HOME SHELL PWD LANG LC_ALL TERM PATH MAIL LOGNAME EDITOR TZ XDG_DATA_DIRS
        XDG_DATA_HOME DOCKER_CONFIG DOCKER_CONTEXT DOCKER_TLS_VERIFY DOCKER_CERT_PATH VIRTUAL_ENV PYTHONPATH
        POSTGRES_URL POSTGRES_HOST PGHOST PGPORT REDIS_HOST REDIS_PORT REDIS_PASSWORD SECRET_KEY_BASE
        OTEL_EXPORTER_OTLP_HEADERS OTEL_EXPORTER_OTLP_PROTOCOL OTEL_SERVICE_NAME AWS_SECRET_ACCESS_KEY
        KUBERNETES_SERVICE_HOST KUBERNETES_PORT HTTP_PROXY NO_PROXY CUDA_VISIBLE_DEVICES FORWARDED_ALLOW_IPS
        GITHUB_TOKEN RUNNER_TEMP CI DEBUG ROLES
    """
    assert misspelt_settings(environment=dict.fromkeys(usual.split(), "x")) == []
