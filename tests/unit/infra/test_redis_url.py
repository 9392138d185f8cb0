"""Accepted values of REDIS_URL, and their form for people."""

from __future__ import annotations

import pytest
from redis.asyncio.connection import parse_url

from hypervisor.errors import StartupError
from hypervisor.infra.coordination.redis_url import normalise_redis_url, printable_redis


@pytest.mark.parametrize(
    ("url", "normalised"),
    [
        ("redis://localhost:6379/0", "redis://localhost:6379/0"),
        ("rediss://user:word@cache.example.com/2", "rediss://user:word@cache.example.com/2"),
        ("unix:///run/redis.sock?db=1", "unix:///run/redis.sock?db=1"),
        ("valkey://localhost:6379", "redis://localhost:6379"),
        ("valkeys://localhost:6379/1", "rediss://localhost:6379/1"),
    ],
)
def test_urls_of_redis_and_valkey_are_accepted(url: str, normalised: str) -> None:
    assert normalise_redis_url(url) == normalised


@pytest.mark.parametrize(
    "url",
    [
        "localhost:6379",
        "http://localhost:6379",
        "redis://",
        "redis://host:port",
        "redis://host/zero",
        "unix://",
    ],
)
def test_anything_else_is_refused_in_one_line(url: str) -> None:
    with pytest.raises(StartupError, match="REDIS_URL is not the URL") as refused:
        normalise_redis_url(url)
    assert "\n" not in str(refused.value)


def test_passwords_are_not_shown() -> None:
    assert printable_redis("redis://user:word@host:1/0?password=x") == "redis://user:***@host:1/0"
    assert printable_redis("redis://:word@host/0") == "redis://:***@host/0"
    assert printable_redis("redis://host:6379/0") == "redis://host:6379/0"


@pytest.mark.parametrize(
    ("url", "normalised"),
    [
        ("rediss://h/0?ssl_cert_reqs=CERT_NONE", "rediss://h/0?ssl_cert_reqs=none"),
        ("rediss://h?ssl_cert_reqs=required", "rediss://h?ssl_cert_reqs=required"),
        ("rediss://h?ssl_check_hostname=False", "rediss://h?ssl_check_hostname=false"),
        ("redis://h?db=3&health_check_interval=10", "redis://h?db=3&health_check_interval=10"),
        ("redis://h?username=u&password=a%2Bb", "redis://h?username=u&password=a%2Bb"),
        (" redis://[::1]:6379/0\n", "redis://[::1]:6379/0"),
    ],
)
def test_parameters_that_the_client_has_are_handed_over(url: str, normalised: str) -> None:
    assert normalise_redis_url(url) == normalised
    assert parse_url(normalise_redis_url(url))


@pytest.mark.parametrize(
    ("url", "named"),
    [
        (
            "redis+sentinel://:hidden@h:26379/mymaster/0",
            "names a sentinel, which is not supported; write the",
        ),
        ("redis+cluster://h:6379", "names a cluster, which is not supported"),
        ("rediss+cluster://h:6379", "names a cluster, which is not supported"),
        ("redis://:hidden@h1:6379,h2:6379/0", "names several hosts, which is not supported"),
        ("redis://:hidden@h?ssl_cert_reqs=none", "ssl_cert_reqs is for TLS only; write rediss://"),
        ("rediss://h?ssl_cert_reqs=maybe", "ssl_cert_reqs=maybe is not supported; write none or optional or"),
        (
            "rediss://h?ssl_ca_certs=/no/such",
            "ssl_ca_certs names /no/such, which does not exist; name a file",
        ),
        ("redis://h?db=zero", "db=zero is not a number"),
        ("redis://:hidden@h?bogus=1", "the parameter 'bogus' is not supported; remove it"),
        ("redis://h?decode_responses=false", "the parameter 'decode_responses' is not supported"),
    ],
)
def test_what_the_client_cannot_do_is_refused_by_name(url: str, named: str) -> None:
    with pytest.raises(StartupError) as refused:
        normalise_redis_url(url)
    assert named in str(refused.value)
    assert "hidden" not in str(refused.value)
