"""Proxy variables: loopback goes direct, NO_PROXY is honoured, and an error names the proxy."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

import httpx2
import pytest

from hypervisor.client import ApiError, Client, ClientError, Unreachable, checkpoint
from hypervisor.client.checkpoint import is_loopback
from hypervisor.client.proxies import proxy_of
from tests.support.servers import free_port
from tests.unit.client.scripted import Response, scripted

VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
REMOTE = "http://hypervisor.invalid:8000"


@dataclass
class Proxy:
    """A proxy on loopback. It records the targets, and answers for them."""

    port: int
    targets: list[str] = field(default_factory=list)


@contextmanager
def proxy(status: int = 200, body: bytes = b'{"version": "1"}') -> Iterator[Proxy]:
    """A running proxy for plain HTTP that refuses CONNECT."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            record.targets.append(self.path)
            self.send_response(status)
            self.send_header("Content-Type", "application/json" if status == 200 else "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_CONNECT(self) -> None:
            record.targets.append(self.path)
            self.send_error(403)

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    record = Proxy(server.server_port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield record
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def test_a_remote_server_is_reached_through_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with proxy() as used:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{used.port}")
        with Client(REMOTE) as client:
            assert client.system_info() == {"version": "1"}
    assert used.targets == [f"{REMOTE}/api/v1/system/info"]


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_loopback_goes_direct(monkeypatch: pytest.MonkeyPatch, variable: str, host: str) -> None:
    with proxy() as unused, scripted(lambda _request: Response(200, {"version": "2"})) as server:
        monkeypatch.setenv(variable, f"http://127.0.0.1:{unused.port}")
        with Client(server.url.replace("127.0.0.1", host)) as client:
            assert client.system_info() == {"version": "2"}
    assert unused.targets == []


@pytest.mark.parametrize("value", ["socks5://127.0.0.1:1", "ftp://x", "http://[", "nonsense"])
def test_loopback_does_not_depend_on_the_proxy_variables(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("ALL_PROXY", value)
    with scripted(lambda _request: Response(200, {})) as server, Client(server.url) as client:
        assert client.system_info() == {}


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1:80", True),
        ("::1", True),
        ("[::1]:8000", True),
        ("[::ffff:127.0.0.1]", True),
        ("LOCALHOST.", True),
        ("api.localhost:1", True),
        ("0.0.0.0", False),
        ("128.0.0.1", False),
        ("localhost.example.com", False),
        ("127.0.0.1.example.com", False),
        ("", False),
    ],
)
def test_loopback_is_this_machine_only(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


@pytest.mark.parametrize(
    ("no_proxy", "url", "direct"),
    [
        ("*", "http://a.example.com", True),
        ("example.com", "http://a.example.com", True),
        (".example.com", "http://a.example.com:8000", True),
        ("a.example.com:8000", "http://a.example.com:8000", True),
        ("example.org, 10.0.0.0/8", "http://10.1.2.3", True),
        ("fd00::/8", "http://[fd00::1]:8000", True),
        ("10.1.2.3", "http://10.1.2.3:8000", True),
        ("example.com", "http://example.org", False),
        ("10.0.0.0/8", "http://11.0.0.1", False),
        ("[", "http://example.com", False),
        ("", "http://example.com", False),
    ],
)
def test_no_proxy_is_honoured(monkeypatch: pytest.MonkeyPatch, no_proxy: str, url: str, direct: bool) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://proxy.example.net:3128")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    assert (proxy_of(httpx2.URL(url))[1] is None) is direct


def test_an_error_names_the_proxy_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://ada:secret@127.0.0.1:{free_port()}")
    with Client(REMOTE) as client, pytest.raises(Unreachable) as raised:
        client.system_info()
    assert f"cannot reach {REMOTE} through the proxy http://127.0.0.1:" in str(raised.value)
    assert "(HTTP_PROXY)" in str(raised.value)
    assert "secret" not in str(raised.value)


def test_an_answer_of_the_proxy_names_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with proxy(502, b"<html>no such host") as used:
        monkeypatch.setenv("HTTP_PROXY", f"127.0.0.1:{used.port}")
        with Client(REMOTE) as client, pytest.raises(ApiError) as raised:
            client.system_info()
    sender = f"the server or the proxy http://127.0.0.1:{used.port} (HTTP_PROXY)"
    assert str(raised.value) == f"{sender} answered 502 Bad Gateway"


def test_a_refused_tunnel_names_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with proxy() as used:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{used.port}")
        with Client("https://hypervisor.invalid") as client, pytest.raises(Unreachable) as raised:
            client.system_info()
    assert f"through the proxy http://127.0.0.1:{used.port} (HTTPS_PROXY): the proxy refused" in str(
        raised.value
    )
    assert "403" in str(raised.value)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("socks5://127.0.0.1:1080", "pip install 'httpx2[socks]'`, or unset ALL_PROXY"),
        ("socks5h://ada:secret@127.0.0.1:1080", "pip install 'httpx2[socks]'`, or unset ALL_PROXY"),
        ("socks4://127.0.0.1:1080", "ALL_PROXY is not the URL of a proxy"),
        ("ftp://ada:secret@127.0.0.1", "ALL_PROXY is not the URL of a proxy"),
        ("http://ada:secret@127.0.0.1:port", "ALL_PROXY is not the URL of a proxy"),
        ("http://127.0.0.1:99999", "ALL_PROXY is not the URL of a proxy"),
        ("http://", "ALL_PROXY is not the URL of a proxy"),
        ("http://[", "ALL_PROXY is not the URL of a proxy"),
    ],
)
def test_a_variable_that_cannot_be_used_is_named(
    monkeypatch: pytest.MonkeyPatch, value: str, sentence: str
) -> None:
    monkeypatch.setenv("ALL_PROXY", value)
    with pytest.raises(ClientError) as raised:
        Client(REMOTE)
    assert sentence in str(raised.value)
    assert "secret" not in str(raised.value)


def test_a_certificate_file_that_cannot_be_used_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    for path in (tmp_path / "missing.pem", empty, tmp_path):
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
        with pytest.raises(ClientError, match=f"SSL_CERT_FILE={path} has no certificates"):
            Client("https://hypervisor.invalid")
        # Plain HTTP needs no certificate.
        Client("http://127.0.0.1:1").close()


def test_a_checkpoint_report_to_loopback_goes_direct(monkeypatch: pytest.MonkeyPatch) -> None:
    opener = build_opener(ProxyHandler({"http": f"http://127.0.0.1:{free_port()}"}))
    monkeypatch.setattr(checkpoint, "_OPENER", opener)
    with scripted(lambda _request: Response(200, {})) as server:
        monkeypatch.setenv("HV_CHECKPOINT_URL", f"{server.url}/report")
        monkeypatch.setenv("HV_CHECKPOINT_TOKEN", "token")
        assert checkpoint.report(step=1) is True
    assert [request.path for request in server.requests] == ["/report"]


def test_a_direct_failure_names_its_cause() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        threading.Thread(target=lambda: listener.accept()[0].sendall(b"no TLS here\r\n"), daemon=True).start()
        with Client(url) as client, pytest.raises(Unreachable) as raised:
            client.system_info()
    assert "SSL" in str(raised.value)
    assert "hypervisor serve" not in str(raised.value)
