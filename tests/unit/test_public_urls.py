"""PUBLIC_URL: which URLs are accepted, and what the refusal of another says."""

from __future__ import annotations

import pytest
from fastapi.routing import iter_route_contexts

from hypervisor.admin.mount import BASE_URL
from hypervisor.api.docs import STATIC_PATH
from hypervisor.app import create_app
from hypervisor.public_urls import OWN_PATHS, check_public_url
from hypervisor.settings import Settings


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (" https://hv.example.com/ ", "https://hv.example.com"),
        ("http://[::1]:8000", "http://[::1]:8000"),
        ("https://h/hv/", "https://h/hv"),
        ("https://h/ml%20ops/hv", "https://h/ml%20ops/hv"),
        ("https://h/api", "https://h/api"),
        ("https://h/api/v2", "https://h/api/v2"),
        ("https://h/administration", "https://h/administration"),
        ("https://h/hv/docs", "https://h/hv/docs"),
        ("https://h/a.b/..c", "https://h/a.b/..c"),
    ],
)
def test_a_url_is_kept_without_the_last_slash(given: str, kept: str) -> None:
    assert check_public_url(given) == kept


@pytest.mark.parametrize(
    ("wrong", "advice"),
    [
        ("https://h/api/v1", "write the address of the server: https://h"),
        ("https://h:8/api/v1/deployments", "write the address of the server: https://h:8"),
        ("https://u:p@h/hv", "write https://h/hv"),
        ("https://u@h", "write https://h"),
        (
            "https://h/admin",
            "has the path /admin of the server itself; write another, like https://h/hv",
        ),
        ("https://h/docs/", "has the path /docs"),
        ("https://h/healthz", "has the path /healthz"),
        ("https://h/../hv", "write one like https://h/hv"),
        ("https://h/%2e%2e/hv", "write one like https://h/hv"),
        ("https://h/./hv", "write one like https://h/hv"),
        ("https://h//hv", "write one like https://h/hv"),
        ("https://h/a//b", "write one like https://h/hv"),
        ("https://h/%zz", "write one like https://h/hv"),
        ("https://h/%", "write one like https://h/hv"),
        ("https://h/%ff", "write one like https://h/hv"),
        ("https://h/a%2Fb", "write one like https://h/hv"),
        ("https://h/a%00", "write one like https://h/hv"),
        ("https://h/a b", "write one like https://h/hv"),
        ("https://h/{x}", "write one like https://h/hv"),
    ],
)
def test_a_url_that_cannot_work_is_refused_with_another(wrong: str, advice: str) -> None:
    with pytest.raises(ValueError, match="write ") as refused:
        check_public_url(wrong)
    assert advice in str(refused.value)
    assert "p@" not in str(refused.value)


def test_every_path_of_the_server_is_known() -> None:
    app = create_app(Settings(_env_file=None))
    paths = [context.path or "/" for context in iter_route_contexts(app.routes)]
    first = {f"/{path.split('/')[1]}" for path in [*paths, STATIC_PATH, BASE_URL]}
    assert first - {"/", "/api"} == OWN_PATHS
