"""HOST as users write it, and hosts as part of a URL."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address

import pytest

from hypervisor import addresses


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "::1", "::", "0.0.0.0", "localhost", "gpu-node_1.lab.example", "fe80::1%eth0", "0"]
)
def test_addresses_and_names_are_accepted(host: str) -> None:
    assert addresses.check_host(f" {host} ") == host


@pytest.mark.parametrize(
    ("wrong", "advice"),
    [
        ("", "write 127.0.0.1"),
        ("  ", "write 127.0.0.1"),
        ("[::1]", "without brackets: ::1"),
        ("http://gpu1:8000", "for example gpu1"),
        ("http://[", "for example 127.0.0.1"),
        ("localhost/hv", "for example localhost"),
        ("127.0.0.1:80", "write the port as PORT"),
        ("localhost:8000", "write the port as PORT"),
        ("[::1]:8000", "write the port as PORT"),
        ("two words", "neither an address nor a host name"),
        ("me@host", "neither an address nor a host name"),
        ("x" * 254, "neither an address nor a host name"),
    ],
)
def test_other_text_is_refused_with_the_right_form(wrong: str, advice: str) -> None:
    with pytest.raises(ValueError, match=advice):
        addresses.check_host(wrong)


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("localhost", "localhost"),
        ("::1", "[::1]"),
        ("2001:DB8:0:0::5", "[2001:db8::5]"),
        ("fe80::1%eth0", "[fe80::1%25eth0]"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
    ],
)
def test_a_host_in_a_url(host: str, shown: str) -> None:
    assert addresses.url_host(host) == shown


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "0", "0::0", "0:0:0:0:0:0:0:0"])
def test_all_addresses_are_reached_at_loopback_on_this_machine(host: str) -> None:
    assert addresses.local_host(host) == "127.0.0.1"


def test_two_colons_are_both_families() -> None:
    assert addresses.listen_addresses("0::") == [IPv6Address("::"), IPv4Address("0.0.0.0")]
    assert addresses.listen_addresses("0.0.0.0") == [IPv4Address("0.0.0.0")]
    assert addresses.listen_addresses("::1") == [IPv6Address("::1")]


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.0.2.1", False),
        ("no-such-name.invalid", False),
    ],
)
def test_which_hosts_only_this_machine_reaches(host: str, *, loopback: bool) -> None:
    assert addresses.is_loopback_only(host) is loopback
    if loopback:
        assert addresses.network_host(host) is None


def test_other_machines_reach_an_address_and_never_a_wildcard() -> None:
    assert addresses.network_host("192.0.2.1") == "192.0.2.1"
    assert addresses.network_host("2001:db8::5") == "[2001:db8::5]"
    assert addresses.network_host("no-such-name.invalid") is None
    with socket.create_server(("0.0.0.0", 0)) as listener:
        host = addresses.network_host("::")
        if host is None:
            pytest.skip("this machine has no route to other networks")
        socket.create_connection((host, listener.getsockname()[1]), timeout=5).close()


def test_the_address_depends_on_the_peer() -> None:
    assert addresses.source_address("127.0.0.1") == addresses.source_address(None)
    assert addresses.source_address("gpu1.example.com") == addresses.source_address(None)
