"""URLs of libpq on a real PostgreSQL with TLS, passwords, a socket and certificates of clients."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import asyncpg  # type: ignore[import-untyped]
import pytest
from anyio.from_thread import BlockingPortal
from sqlalchemy import text

from hypervisor.cli.core.database_access import using_database
from hypervisor.cli.doctor.database import NodeEngines, database
from hypervisor.errors import StartupError
from hypervisor.infra.coordination.bus import Bus
from hypervisor.infra.coordination.postgres_link import postgres_link
from hypervisor.infra.wakeup import Wakeup
from hypervisor.settings import Settings
from hypervisor.store.database import Database
from hypervisor.store.driver.address import parse_database_url
from hypervisor.store.migrations.runner import current_revision, head_revision, upgrade
from tests.support import servers
from tests.support.certificates import Authority
from tests.support.postgres import find_binaries, running_server
from tests.support.wait import eventually

ODD_USER, ODD_PASSWORD, ODD_DATABASE = "ada@lab o'hara/ü%", "p@:/?#%& +ä'\"", "my db/ü%?#@"
HBA = """
local all all scram-sha-256
host all postgres 127.0.0.1/32 trust
hostssl all certified 127.0.0.1/32 cert
hostssl all all 127.0.0.1/32 scram-sha-256
"""


@dataclass(frozen=True)
class TlsServer:
    """A server with TLS: its port, its sockets' folder, and the files of the clients."""

    port: int
    folder: Path
    certificates: Path

    def url(self, query: str = "", *, host: str = "localhost", password: str = ODD_PASSWORD) -> str:
        login = f"{quote(ODD_USER, safe='')}:{quote(password, safe='')}"
        return f"postgresql://{login}@{host}:{self.port}/{quote(ODD_DATABASE, safe='')}{query}"

    def file(self, name: str) -> str:
        return quote(str(self.certificates / name), safe="")


@pytest.fixture(scope="module")
def tls_server(portal: BlockingPortal) -> Iterator[TlsServer]:
    with servers.scratch_directory("hv-tls-") as folder:
        account = servers.unprivileged_account()
        certificates = folder / "certificates"
        certificates.mkdir()
        authority, other = Authority("the authority"), Authority("another authority")
        authority.write_root(certificates / "root.crt")
        other.write_root(certificates / "other.crt")
        authority.issue("localhost", certificates / "server")
        authority.issue("certified", certificates / "client")
        authority.issue("certified", certificates / "encrypted", password=b"of the key")
        (folder / "hba.conf").write_text(HBA)
        for name in ("server.key", "server.crt"):
            os.chown(certificates / name, account.uid or -1, account.gid or -1)
        sockets = folder / "sockets"
        sockets.mkdir()
        sockets.chmod(0o777)
        settings = {
            "ssl": "on",
            "ssl_cert_file": str(certificates / "server.crt"),
            "ssl_key_file": str(certificates / "server.key"),
            "ssl_ca_file": str(certificates / "root.crt"),
            "hba_file": str(folder / "hba.conf"),
            "unix_socket_directories": str(sockets),
        }
        with running_server(find_binaries(folder), folder, **settings) as url:
            portal.call(_create_roles, url)
            yield TlsServer(urlsplit(url).port or 0, sockets, certificates)


async def _create_roles(url: str) -> None:
    connection = await asyncpg.connect(url)
    quoted = ODD_PASSWORD.replace("'", "''")
    await connection.execute(f"""CREATE ROLE "{ODD_USER}" LOGIN PASSWORD '{quoted}'""")
    await connection.execute("CREATE ROLE certified LOGIN")
    await connection.execute(f'CREATE DATABASE "{ODD_DATABASE}" OWNER "{ODD_USER}"')
    await connection.close()


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Any]:
    target = parse_database_url(url).postgres
    assert target is not None
    connection = await target.connect()
    try:
        yield connection
    finally:
        await connection.close()


async def in_tls(connection: Any) -> bool:
    return bool(await connection.fetchval("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"))


async def test_one_url_works_for_migrations_server_hints_and_doctor(tls_server: TlsServer) -> None:
    url = tls_server.url(
        f"?sslmode=verify-full&sslrootcert={tls_server.file('root.crt')}&application_name=hv%20test"
        "&connect_timeout=5&target_session_attrs=read-write&keepalives_idle=30"
    )
    await upgrade(url)
    assert await current_revision(url) == head_revision()
    opened = Database(url)
    async with opened.read() as session:
        name = await session.scalar(text("SELECT current_setting('application_name')"))
        role = await session.scalar(text("SELECT current_user"))
        timeout = await session.scalar(text("SELECT current_setting('idle_in_transaction_session_timeout')"))
    assert (name, role) == ("hv test", ODD_USER)
    assert timeout != "0"
    assert opened.address.postgres is not None
    bus = Bus(Wakeup(), postgres_link(opened.address.postgres))
    bus.start()
    await eventually(lambda: bus.connected)
    await bus.stop()
    await opened.close()
    findings = await database(Settings(_env_file=None, database_url=url), NodeEngines())
    assert [finding for finding in findings if finding.status == "problem"] == []
    assert not any(quote(ODD_PASSWORD, safe="") in finding.detail for finding in findings)


@pytest.mark.parametrize(
    ("query", "encrypted"),
    [
        ("?sslmode=prefer", True),
        ("", True),
        ("?sslmode=require", True),
        ("?ssl=true", True),
        ("?sslmode=verify-ca&sslrootcert=ROOT", True),
        ("?sslmode=require&sslrootcert=ROOT", True),
        ("?sslmode=allow", True),
    ],
)
async def test_modes_of_tls(tls_server: TlsServer, query: str, encrypted: bool) -> None:
    async with connected(tls_server.url(query.replace("ROOT", tls_server.file("root.crt")))) as connection:
        assert await in_tls(connection) is encrypted


@pytest.mark.parametrize(
    ("query", "host", "reason"),
    [
        ("?sslmode=disable", "localhost", "no pg_hba.conf entry"),
        ("?sslmode=verify-ca&sslrootcert=OTHER", "localhost", "certificate verify failed"),
        ("?sslmode=verify-full&sslrootcert=ROOT", "127.0.0.1", "certificate verify failed"),
        ("?sslmode=require", "wrong password", "password authentication failed"),
    ],
)
async def test_a_connection_that_is_not_allowed_is_one_line(
    tls_server: TlsServer, query: str, host: str, reason: str
) -> None:
    for name, file in (("ROOT", "root.crt"), ("OTHER", "other.crt")):
        query = query.replace(name, tls_server.file(file))
    password = "not-this-one" if host == "wrong password" else ODD_PASSWORD
    url = tls_server.url(query, host=host if host == "127.0.0.1" else "localhost", password=password)
    with pytest.raises(StartupError) as refused, using_database(url):
        await current_revision(url)
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)
    assert password not in str(refused.value)
    assert quote(password, safe="") not in str(refused.value)


async def test_the_authorities_of_the_system_are_trusted_on_request(
    tls_server: TlsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = tls_server.url("?sslmode=verify-full&sslrootcert=system")
    with pytest.raises(StartupError, match="certificate verify failed"), using_database(url):
        await current_revision(url)
    monkeypatch.setenv("SSL_CERT_FILE", str(tls_server.certificates / "root.crt"))
    async with connected(url) as connection:
        assert await in_tls(connection)


@pytest.mark.parametrize("name", ["client", "encrypted"])
async def test_a_client_certificate(tls_server: TlsServer, name: str) -> None:
    pair = f"sslcert={tls_server.file(f'{name}.crt')}&sslkey={tls_server.file(f'{name}.key')}"
    password = "&sslpassword=of%20the%20key" if name == "encrypted" else ""
    place = f"postgresql://certified@localhost:{tls_server.port}/{quote(ODD_DATABASE, safe='')}"
    async with connected(f"{place}?sslmode=require&{pair}{password}") as connection:
        assert await connection.fetchval("SELECT current_user") == "certified"


def test_a_key_that_does_not_fit_is_refused(tls_server: TlsServer) -> None:
    certificate, key = tls_server.file("client.crt"), tls_server.file("server.key")
    encrypted = tls_server.file("encrypted.crt"), tls_server.file("encrypted.key")
    for pair in (f"sslcert={certificate}&sslkey={key}", "sslcert={}&sslkey={}".format(*encrypted)):
        with pytest.raises(StartupError, match="sslcert and sslkey do not fit together"):
            parse_database_url(f"postgresql://certified@localhost/x?sslmode=require&{pair}")


async def test_a_socket_an_odd_name_and_a_password_file(tls_server: TlsServer, tmp_path: Path) -> None:
    passwords = tmp_path / "pgpass"
    escaped = ODD_PASSWORD.replace("\\", "\\\\").replace(":", "\\:")
    passwords.write_text(f"*:*:*:{ODD_USER}:{escaped}\n")
    passwords.chmod(0o600)
    user, name = quote(ODD_USER, safe=""), quote(ODD_DATABASE, safe="")
    folder = quote(str(tls_server.folder), safe="")
    at_host = f"postgresql://{user}@{folder}:{tls_server.port}/{name}?passfile={quote(str(passwords))}"
    as_parameters = (
        f"postgresql:///?user={user}&dbname={name}&host={folder}&port={tls_server.port}"
        f"&password={quote(ODD_PASSWORD, safe='')}"
    )
    for url in (at_host, as_parameters):
        async with connected(url) as connection:
            assert await connection.fetchval("SELECT current_database()") == ODD_DATABASE


async def test_the_first_host_that_answers_is_used(tls_server: TlsServer) -> None:
    dead = servers.free_port()
    for host in (f"127.0.0.1:{dead},localhost", f"[::1]:{dead},localhost"):
        async with connected(tls_server.url("?sslmode=require", host=host)) as connection:
            assert await connection.fetchval("SELECT 1") == 1


async def test_session_options_reach_the_server(tls_server: TlsServer) -> None:
    async with connected(tls_server.url("?options=-c%20search_path%3Dtenant%20-c%20work_mem%3D8MB")) as one:
        assert await one.fetchval("SHOW search_path") == "tenant"
        assert await one.fetchval("SHOW work_mem") == "8MB"


async def test_keepalives_are_set_on_the_socket(tls_server: TlsServer) -> None:
    async with connected(tls_server.url("?keepalives_idle=33&tcp_user_timeout=4000")) as connection:
        opened = connection._transport.get_extra_info("socket")
        assert opened.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 33
        assert opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 4000
