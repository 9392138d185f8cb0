"""The table of path aliases."""

from __future__ import annotations

import pytest

from hypervisor.api.path_aliases import canonical_path, without_prefix


@pytest.mark.parametrize(
    ("requested", "canonical"),
    [
        ("/", "/"),
        ("/api/v1/auth/me", "/api/v1/auth/me"),
        ("/api/v1/auth/me/", "/api/v1/auth/me"),
        ("/auth/me//", "/api/v1/auth/me"),
        ("/register", "/api/v1/auth/register"),
        ("/api/v1/register/", "/api/v1/auth/register"),
        ("/token", "/api/v1/auth/login"),
        ("/login/", "/api/v1/auth/login"),
        ("/join-organization", "/api/v1/organizations/join"),
        ("/organization/", "/api/v1/organizations"),
        ("/organization/join/abc", "/api/v1/organizations/join/abc"),
        ("/organizations/7/join/", "/api/v1/organizations/7/join"),
        ("/cluster", "/api/v1/clusters"),
        ("/cluster/3/nodes", "/api/v1/clusters/3/nodes"),
        ("/deployment/", "/api/v1/deployments"),
        ("/api/v1/deployment/5/start", "/api/v1/deployments/5/start"),
        ("/docs/", "/docs"),
        ("/swagger/", "/swagger"),
        ("/admin", "/admin/"),
        ("/admin/", "/admin/"),
        ("/admin/user/list", "/admin/user/list"),
        ("/admin/register", "/admin/register"),
        ("/static/docs/", "/static/docs/"),
        ("/api/v1", "/api/v1"),
        ("/api/v1/", "/api/v1"),
        ("/api/v10/auth/me", "/api/v10/auth/me"),
        ("/registered", "/registered"),
        ("/clusters-of-stars", "/clusters-of-stars"),
        ("//evil.example/auth/me", "/evil.example/auth/me"),
        ("//docs", "/docs"),
        ("///", "/"),
        ("/api//v1///auth/me//", "/api/v1/auth/me"),
        ("//admin//user/list", "/admin/user/list"),
        ("", "/"),
    ],
)
def test_every_path_has_one_canonical_form(requested: str, canonical: str) -> None:
    assert canonical_path(requested) == canonical
    assert canonical_path(canonical) == canonical


@pytest.mark.parametrize(
    ("prefix", "requested", "path"),
    [
        ("", "/docs", "/docs"),
        ("/hv", "/docs", "/docs"),
        ("/hv", "/hv/docs", "/docs"),
        ("/hv", "/hv", "/"),
        ("/hv", "/hv/", "/"),
        ("/hv", "/hvx/docs", "/hvx/docs"),
        ("/hv", "/hv/hv/docs", "/hv/docs"),
        ("/a/b c", "/a/b c/docs", "/docs"),
        ("/api", "/api/v1/clusters", "/api/v1/clusters"),
        ("/api", "/api/api/v1/clusters", "/api/v1/clusters"),
        ("/api", "/api/docs", "/docs"),
    ],
)
def test_the_prefix_of_a_proxy_is_removed_once(prefix: str, requested: str, path: str) -> None:
    assert without_prefix(requested, prefix) == path
