"""PostgreSQL URLs as managed services and users of libpq write them."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypervisor.errors import StartupError
from hypervisor.store.driver.address import parse_database_url
from hypervisor.store.driver.libpq_defaults import VARIABLES, Parameter
from hypervisor.store.driver.postgres import PostgresTarget, postgres_target
from hypervisor.store.driver.tcp import socket_options


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in (*VARIABLES.values(), "PGSYSCONFDIR"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def target(url: str) -> PostgresTarget:
    parsed = parse_database_url(url).postgres
    assert isinstance(parsed, PostgresTarget)
    return parsed


def refusal(url: str) -> str:
    with pytest.raises(StartupError) as refused:
        parse_database_url(url)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("postgres://u@h/x", (("h", 5432),)),
        ("postgresql://u@h:6543/x", (("h", 6543),)),
        ("postgresql+asyncpg://u@h/x", (("h", 5432),)),
        ("postgresql+psycopg2://u@h/x", (("h", 5432),)),
        (" postgresql://u@h/x\n", (("h", 5432),)),
        ("PostgreSQL://u@h/x", (("h", 5432),)),
        ("postgresql://u@[::1]:5433/x", (("::1", 5433),)),
        ("postgresql://u@[::1]/x", (("::1", 5432),)),
        ("postgresql://u@h1:1,h2:2/x", (("h1", 1), ("h2", 2))),
        ("postgresql://u@h1,[::1]:7,h3/x", (("h1", 5432), ("::1", 7), ("h3", 5432))),
        ("postgresql://u@/x?host=a,b&port=1,2", (("a", 1), ("b", 2))),
        ("postgresql://u@/x?host=a,b&port=7", (("a", 7), ("b", 7))),
        ("postgresql://u@/x?host=a:1&host=b:2", (("a", 1), ("b", 2))),
        ("postgresql://u@/x", ((None, 5432),)),
        ("postgresql:///x", ((None, 5432),)),
        ("postgresql://", ((None, 5432),)),
        ("postgresql://:5433/x", ((None, 5433),)),
        ("postgresql:///x?host=/var/run/postgresql", (("/var/run/postgresql", 5432),)),
        ("postgresql://u@%2Fvar%2Frun%2Fpostgresql:6000/x", (("/var/run/postgresql", 6000),)),
        ("postgresql:///x?hostaddr=10.0.0.7", (("10.0.0.7", 5432),)),
        ("postgresql://h?user=a", (("h", 5432),)),
    ],
)
def test_hosts(url: str, hosts: Any) -> None:
    assert target(url).hosts == hosts


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://u:p@h/x", ("u", "p", "x")),
        ("postgresql://u:p%40%3A%2F%3F%23%25@h/x", ("u", "p@:/?#%", "x")),
        ("postgresql://u:p@ss@h/x", ("u", "p@ss", "x")),
        ("postgresql://u:p/w@h/x", ("u", "p/w", "x")),
        ("postgresql://u:p?w#@h/x", ("u", "p?w#", "x")),
        ("postgresql://u:a+b@h/x", ("u", "a+b", "x")),
        ("postgresql://u:p:q@h/x", ("u", "p:q", "x")),
        ("postgresql://my%20user:p@h/my%20db", ("my user", "p", "my db")),
        ("postgresql://%C3%BCser:p%C3%A4ss@h/d%C3%A4ta", ("üser", "päss", "däta")),
        ("postgresql://üser:päss@h/däta", ("üser", "päss", "däta")),
        ("postgresql://h/x?user=a%40b&password=c%26d", ("a@b", "c&d", "x")),
        ("postgresql://h/?user=u&dbname=x%3Fy", ("u", None, "x?y")),
        ("postgresql://u@h/x%2Fy", ("u", None, "x/y")),
        ("postgresql://u:p@h/x@y", ("u", "p", "x@y")),
        ("postgresql://h:5432/x@y", (None, None, "x@y")),
        ("postgresql://user@tenant:p@h/x", ("user@tenant", "p", "x")),
    ],
)
def test_names_and_passwords(url: str, expected: tuple[str | None, ...]) -> None:
    parsed = target(url)
    assert tuple(parsed.options.get(name) for name in ("user", "password", "database")) == expected
    assert (":***@" in str(parsed)) == (expected[1] is not None)


@pytest.mark.parametrize(
    "url", ["postgresql://u:hidden@h/x", "postgresql://h/x?user=u&password=hidden&sslpassword=hidden"]
)
def test_a_password_is_never_shown(url: str) -> None:
    assert "hidden" not in str(parse_database_url(url)) + repr(parse_database_url(url))


names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)


@given(user=names, password=names, database=names)
def test_any_encoded_name_is_read_as_written(user: str, password: str, database: str) -> None:
    login = f"{quote(user, safe='')}:{quote(password, safe='')}"
    options = target(f"postgresql://{login}@h/{quote(database, safe='')}").options
    assert (options["user"], options["password"], options["database"]) == (user, password, database)


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    for url in (text, f"postgresql://{text}", f"postgresql://u:secret@h/x?{text}", f"sqlite:///{text}"):
        with suppress(StartupError):
            parse_database_url(url)


def test_parameters_of_managed_services_reach_the_driver() -> None:
    parsed = target(
        "postgres://u:p@ep-1.example.com/x?sslmode=require&channel_binding=prefer&connect_timeout=7"
        "&application_name=hv%20one&options=-csearch_path%3Dtenant&target_session_attrs=read-write"
        "&keepalives=1&client_encoding=utf8&gssencmode=disable&load_balance_hosts=disable"
    )
    assert parsed.timeout == 7
    assert parsed.session == {"application_name": "hv one", "options": "-csearch_path=tenant"}
    assert parsed.options["target_session_attrs"] == "read-write"
    assert parsed.options["dsn"] == "postgresql://?sslmode=require"


def test_parameters_of_the_driver_still_work() -> None:
    parsed = target("postgresql://h/x?ssl=require&command_timeout=3&prepared_statement_cache_size=0")
    assert parsed.options["command_timeout"] == 3
    assert parsed.statement_cache == 0
    assert parsed.options["dsn"] == "postgresql://?sslmode=require"
    assert target("postgresql://h/x?ssl=true").options["dsn"] == "postgresql://?sslmode=require"


def test_of_several_hosts_the_one_that_can_be_written_to_is_used() -> None:
    assert target("postgresql://a,b/x").options["target_session_attrs"] == "read-write"
    assert "target_session_attrs" not in target("postgresql://a/x").options
    assert target("postgresql://a,b/x?target_session_attrs=any").options["target_session_attrs"] == "any"


def test_keepalives_are_on_as_in_libpq() -> None:
    def options(**given: str) -> Iterator[tuple[int, int, int]]:
        return iter(socket_options({name: Parameter(value, name) for name, value in given.items()}))

    alive = (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    assert list(options()) == [alive]
    assert list(options(keepalives="0", keepalives_idle="5")) == []
    assert list(options(keepalives_idle="5", tcp_user_timeout="3000", keepalives_count="0")) == [
        alive,
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 5),
        (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 3000),
    ]
    # The system takes the highest values that are accepted.
    highest = options(
        keepalives_idle="32767",
        keepalives_interval="32767",
        keepalives_count="127",
        tcp_user_timeout="2147483647",
    )
    with socket.socket() as opened:
        for option in highest:
            opened.setsockopt(*option)


def test_the_environment_of_libpq_fills_what_the_url_leaves_out(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in {
        "PGHOST": "h1,h2",
        "PGPORT": "6000",
        "PGUSER": "ada",
        "PGPASSWORD": "of the environment",
        "PGSSLMODE": "require",
        "PGCONNECT_TIMEOUT": "4",
        "PGAPPNAME": "named",
    }.items():
        monkeypatch.setenv(variable, value)
    parsed = target("postgresql:///x?application_name=written")
    assert parsed.hosts == (("h1", 6000), ("h2", 6000))
    assert parsed.options["user"] == "ada"
    assert parsed.options["password"] == "of the environment"
    assert parsed.options["dsn"] == "postgresql://?sslmode=require"
    assert (parsed.timeout, parsed.session["application_name"]) == (4, "written")
    monkeypatch.setenv("PGCHANNELBINDING", "require")
    assert refusal("postgresql:///x").startswith("PGCHANNELBINDING=require is not supported; ")


def test_a_service_file_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "services.conf"
    file.write_text("[prod]\nhost=h1\nport=6000\npassword=a%b=c\nsslmode=require\n[old]\nsslsni=0\n")
    parsed = target(f"postgresql://u@/x?service=prod&servicefile={quote(str(file))}&port=7")
    assert parsed.hosts == (("h1", 7),)
    assert parsed.options["password"] == "a%b=c"
    monkeypatch.setenv("PGSERVICEFILE", str(file))
    monkeypatch.setenv("PGSERVICE", "prod")
    assert target("postgresql:///x").hosts == (("h1", 6000),)
    assert refusal("postgresql:///x?service=old").startswith("service old: sslsni=0 is not supported; ")
    assert refusal("postgresql:///x?service=none").startswith("DATABASE_URL: service none is not defined; ")


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("sslmode=maybe", "sslmode=maybe is not supported; write disable, allow, prefer"),
        ("channel_binding=require", "channel_binding=require is not supported; remove it, and let sslmode="),
        ("target_session_attrs=standby", "target_session_attrs=standby is not supported; the server needs"),
        ("client_encoding=LATIN1", "client_encoding=LATIN1 is not supported; the server always uses UTF8"),
        ("require_auth=scram-sha-256", "require_auth is not supported; remove it, and let"),
        ("pgbouncer=true", "pgbouncer=true is not supported; remove it, and write the address"),
        ("schema=public", "schema is not supported; write options="),
        ("sslmod=require", "the parameter 'sslmod' is unknown; did you mean sslmode?"),
        ("bogus=1", "the parameter 'bogus' is unknown; remove it"),
        ("connect_timeout=abc", "connect_timeout=abc is not a duration; write seconds"),
        ("connect_timeout=-1", "connect_timeout=-1 is not a duration; write seconds"),
        ("keepalives=maybe", "keepalives=maybe is not supported; write 0 or 1"),
        ("keepalives_idle=x", "keepalives_idle=x is not a number; write a whole number"),
        ("keepalives_idle=40000", "keepalives_idle=40000 is too high; write a number from 0 to 32767"),
        ("keepalives_idle=99999999999", "is too high; write a number from 0 to 32767"),
        ("keepalives_interval=32768", "is too high; write a number from 0 to 32767"),
        ("keepalives_count=300", "keepalives_count=300 is too high; write a number from 0 to 127"),
        ("keepalives_count=2147483648", "is too high; write a number from 0 to 127"),
        ("tcp_user_timeout=2147483648", "is too high; write a number from 0 to 2147483647"),
        (f"tcp_user_timeout={'9' * 5000}", "is too high; write a number from 0 to 2147483647"),
        ("prepared_statement_cache_size=2147483648", "write a number from 0 to 2147483647"),
        ("port=abc", "port=abc is not a port; write a number from 1 to 65535"),
        ("port=0", "port=0 is not a port; write a number from 1 to 65535"),
        ("host=a,b,c&port=1,2", "port has 2 ports for 3 hosts; write one, or one for each host"),
        ("host=a&hostaddr=10.0.0.1", "hostaddr beside host is not supported; write one of the two"),
        ("host=@abstract", "abstract sockets are not supported; write the folder of a socket"),
        ("sslmode=verify-full", "sslmode=verify-full needs the certificate of the server's authority; write"),
        ("sslrootcert=/no/such.crt", "/no/such.crt cannot be read (No such file or directory); name"),
        ("sslrootcert=system&sslmode=require", "sslrootcert=system needs sslmode=verify-full; write both"),
        ("sslnegotiation=direct", "sslnegotiation=direct needs TLS; write sslmode=require"),
        ("options=-cstatement_timeout%3D0", "options has statement_timeout; remove it"),
        ("ssl=true&sslmode=require", "ssl is the same as sslmode; write one of the two"),
        ("sslmode=require&sslmode=disable", "has sslmode twice; write it once"),
        ("sslmode", "has the parameter 'sslmode' without a value; write keyword=value"),
        ("application_name=%zz", "has a % that is not followed by two hex digits; write %25"),
        ("application_name=%ff", "has a percent-encoded text that is not UTF-8"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(query: str, named: str) -> None:
    line = refusal(
        f"postgresql://u:hidden@h2/x?{query}" if "host=" not in query else f"postgresql:///x?{query}"
    )
    assert named in line
    assert "hidden" not in line


@pytest.mark.parametrize(
    "url",
    [
        "nonsense",
        "",
        "host=localhost dbname=x",
        "mysql://u:hidden@h/x",
        "jdbc:postgresql://h/x?user=u&password=hidden",
        "postgresql:u:hidden@h/x",
        "postgresql://u:hidden@127.0.0.1:notaport/x",
        "postgresql://u:hidden@127.0.0.1:99999/x",
        "postgresql://u:hidden@[::1/x",
        "postgresql://u:hidden@a:b:c/x",
        "postgresql://u:hidden@::1/x",
    ],
)
def test_a_text_that_is_no_database_url_is_refused_without_its_password(url: str) -> None:
    line = refusal(url)
    assert line.startswith("DATABASE_URL")
    assert "hidden" not in line


def test_a_user_without_an_entry_in_the_password_file_must_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> str:
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr("getpass.getuser", missing)
    assert refusal("postgresql://h/x") == "DATABASE_URL names no user; write postgresql://USER@host/db"
    assert postgres_target("u@h/x").options["user"] == "u"
