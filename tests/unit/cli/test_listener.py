"""The sockets of `hypervisor serve`, and its refusals."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from ipaddress import IPv4Address

import pytest

from hypervisor import addresses
from hypervisor.cli.commands.serve import listener
from hypervisor.errors import StartupError

needs_ipv6 = pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6; skipped")


@needs_ipv6
def test_two_colons_answer_on_both_families_on_one_free_port() -> None:
    with ExitStack() as opened:
        sockets = [opened.enter_context(each) for each in listener.listen("::", 0)]
        [port] = {each.getsockname()[1] for each in sockets}
        assert listener.describe(sockets) == f"[::]:{port}, 0.0.0.0:{port}"
        for host, seen in (("127.0.0.1", "127.0.0.1"), ("::1", "::1")):
            with socket.create_connection((host, port), timeout=5) as client:
                # A client on IPv4 has an IPv4 address, which rate limits and proxies match.
                assert client.getsockname()[0] == seen


@needs_ipv6
def test_a_free_port_is_free_on_every_address(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("0.0.0.0", 0)) as taken:
        tries = iter([taken.getsockname()[1], 0])
        listen_on = listener._listen_on

        def first_choice(address: addresses.Address, port: int) -> socket.socket:
            return listen_on(address, port or next(tries))

        monkeypatch.setattr(listener, "_listen_on", first_choice)
        with ExitStack() as opened:
            sockets = [opened.enter_context(each) for each in listener.listen("::", 0)]
            assert sockets[0].getsockname()[1] == sockets[1].getsockname()[1]
            assert sockets[0].getsockname()[1] != taken.getsockname()[1]


def test_an_address_of_a_missing_family_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    # 192.0.2.9 (TEST-NET-1) stands for an address that this machine lacks.
    both = [IPv4Address("192.0.2.9"), IPv4Address("127.0.0.1")]
    monkeypatch.setattr(listener, "listen_addresses", lambda _host: both)
    [only] = listener.listen("localhost", 0)
    with only:
        assert only.getsockname()[0] == "127.0.0.1"


def test_each_refusal_is_one_line_with_advice() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for host, wanted, cause in (
            ("127.0.0.1", port, f"cannot listen on 127.0.0.1:{port}: Address already in use; choose another"),
            ("192.0.2.9", 1234, "cannot listen on 192.0.2.9:1234: Cannot assign requested address; this"),
            ("2001:db8::9", 1234, "cannot listen on [2001:db8::9]:1234: "),
            (
                "no-such-name.invalid",
                1234,
                "cannot listen on no-such-name.invalid: the name does not resolve",
            ),
        ):
            with pytest.raises(StartupError) as refused:
                listener.listen(host, wanted)
            assert str(refused.value).startswith(cause)
            assert "\n" not in str(refused.value)


def test_a_privileged_port_is_refused_with_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_arguments: object, **_options: object) -> socket.socket:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket, "create_server", denied)
    with pytest.raises(StartupError, match="Permission denied; choose a port from 1024 up"):
        listener.listen("127.0.0.1", 80)
