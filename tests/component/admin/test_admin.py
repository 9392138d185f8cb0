"""The admin pages: superusers only, the back-off of the API, no secrets, no other hosts."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import httpx2
import pytest

from hypervisor.admin import views
from tests.support.api import PASSWORD, Api, ok, refused
from tests.support.databases import ON_SQLITE

PAGES = ("user", "organization", "cluster", "cluster-share", "deployment", "event")


@pytest.fixture
async def browser(api: Api) -> AsyncIterator[httpx2.AsyncClient]:
    """A client with cookies, like a browser."""
    transport = httpx2.ASGITransport(app=api.app)
    async with httpx2.AsyncClient(
        transport=transport, base_url="http://hypervisor.test", follow_redirects=True
    ) as client:
        yield client


async def _log_in(browser: httpx2.AsyncClient, name: str, password: str = PASSWORD) -> httpx2.Response:
    page = await browser.get("/admin/login")
    return await browser.post("/admin/login", data=_form(page, username=name, password=password))


def _form(page: httpx2.Response, **fields: str) -> dict[str, str]:
    found = re.search(r'name="csrf_token"\s+value="([^"]+)"', page.text) or re.search(
        r'name="_?csrf\w*"\s+value="([^"]+)"', page.text
    )
    assert found, page.text[:2000]
    name = re.search(r'name="(_?csrf\w*)"', page.text)
    assert name
    return {name[1]: found[1], **fields}


@ON_SQLITE
@pytest.mark.parametrize("path", ["/admin", "/admin/", "/admin/user/list", "/admin/event/list"])
async def test_requests_without_login_are_redirected_to_the_login(
    api: Api, browser: httpx2.AsyncClient, path: str
) -> None:
    answer = await browser.get(path)
    assert answer.status_code == 200
    assert answer.url.path == "/admin/login"


async def test_only_superusers_can_log_in(api: Api, browser: httpx2.AsyncClient) -> None:
    ada, root = await api.person(), await api.superuser()

    assert "not a superuser" in (await _log_in(browser, ada.username)).text
    assert (await browser.get("/admin/user/list")).url.path == "/admin/login"
    assert "not a superuser" in (await _log_in(browser, root.username, "guess")).text

    page = await _log_in(browser, root.username)
    assert page.url.path == "/admin/"
    assert (await browser.get("/admin/user/list")).url.path == "/admin/user/list"


async def test_the_login_has_the_same_back_off(api: Api, browser: httpx2.AsyncClient) -> None:
    root = await api.superuser()
    for _ in range(5):
        await _log_in(browser, root.username, "guess")
    assert "Try again in" in (await _log_in(browser, root.username)).text
    refused(await api.login(root.username), 429, "login_backoff")


async def test_pages_show_no_secrets_and_load_nothing_from_other_hosts(
    api: Api, browser: httpx2.AsyncClient
) -> None:
    root = await api.superuser()
    organization = await root.organization("Vision")
    await _log_in(browser, root.username)

    pages = [await browser.get(f"/admin/{page}/list") for page in PAGES]
    pages.append(await browser.get(f"/admin/user/detail?pk={root.id}"))
    pages.append(await browser.get(f"/admin/organization/detail?pk={organization}"))

    for page in pages:
        assert page.status_code == 200, page.url
        assert "argon2" not in page.text
        assert "encrypted" not in page.text
        assert not _foreign(page.text), page.url
        assert "unsafe-eval" not in page.headers["content-security-policy"]
        assert "default-src 'none'" in page.headers["content-security-policy"]
    assert root.username in pages[0].text
    assert "Vision" in pages[1].text


async def test_deactivating_a_user_ends_their_sessions(api: Api, browser: httpx2.AsyncClient) -> None:
    root, ada = await api.superuser(), await api.person()
    await _log_in(browser, root.username)
    path = f"/admin/user/edit?pk={ada.id}"

    saved = await browser.post(path, data=_form(await browser.get(path)))

    assert saved.status_code == 200, saved.text
    refused(await ada.get("/api/v1/auth/me"), 401, "session_ended")


async def test_superusers_cannot_lock_themselves_out(api: Api, browser: httpx2.AsyncClient) -> None:
    root = await api.superuser()
    await _log_in(browser, root.username)
    path = f"/admin/user/edit?pk={root.id}"

    answer = await browser.post(path, data=_form(await browser.get(path)))

    assert answer.status_code == 422
    assert "your own rights" in answer.text
    assert ok(await root.get("/api/v1/auth/me"))["is_superuser"] is True


async def test_names_and_hashes_cannot_be_changed_by_a_forged_form(
    api: Api, browser: httpx2.AsyncClient
) -> None:
    root, ada = await api.superuser(), await api.person()
    await _log_in(browser, root.username)
    path = f"/admin/user/edit?pk={ada.id}"
    forged = {"username": "eve", "password_hash": "x", "is_active": "on"}

    await browser.post(path, data=_form(await browser.get(path), **forged))

    assert ok(await ada.get("/api/v1/auth/me"))["username"] == ada.username
    ok(await api.login(ada.username))


@pytest.mark.parametrize("path", ["/admin/organization/create", "/admin/user/create"])
async def test_nothing_can_be_created(api: Api, browser: httpx2.AsyncClient, path: str) -> None:
    root = await api.superuser()
    await _log_in(browser, root.username)
    assert (await browser.get(path)).status_code == 403


async def test_cluster_shares_are_shown(api: Api, browser: httpx2.AsyncClient) -> None:
    root, guest = await api.superuser(), await api.person()
    organization, guests = await root.organization("Owners"), await guest.organization("Guests")
    body = {"organization_id": organization, "name": "lab", "total_cpu_cores": 4, "total_ram_gb": 8}
    cluster = ok(
        await root.post("/api/v1/clusters", {**body, "total_gpu_count": 2, "runtime": "simulated"}), 201
    )
    share = {"organization_id": guests, "guaranteed": {"gpu_count": 1}}
    ok(await root.post(f"/api/v1/clusters/{cluster['id']}/shares", share), 201)
    await _log_in(browser, root.username)
    page = await browser.get(f"/admin/cluster-share/detail?pk={cluster['id']},{guests}")
    assert page.status_code == 200
    assert "offered" in page.text
    for pk in (str(cluster["id"]), f"{cluster['id']},{organization}", "1,2,3", "a,b", "1,'"):
        assert (await browser.get(f"/admin/cluster-share/detail?pk={pk}")).status_code == 404


@pytest.mark.parametrize("pk", ["abc", "0", "99999999999999999999999", "1'"])
async def test_an_invalid_id_is_not_found(api: Api, browser: httpx2.AsyncClient, pk: str) -> None:
    root = await api.superuser()
    await _log_in(browser, root.username)
    assert (await browser.get(f"/admin/user/detail?pk={pk}")).status_code == 404


async def test_a_form_without_a_csrf_token_is_refused(api: Api, browser: httpx2.AsyncClient) -> None:
    root, ada = await api.superuser(), await api.person()
    await _log_in(browser, root.username)
    answer = await browser.post(f"/admin/user/edit?pk={ada.id}", data={"is_active": ""})
    assert answer.status_code == 403
    ok(await ada.get("/api/v1/auth/me"))


async def test_logging_out_ends_the_session(api: Api, browser: httpx2.AsyncClient) -> None:
    root = await api.superuser()
    page = await _log_in(browser, root.username)
    stolen = browser.cookies["hypervisor_admin"]
    await browser.post("/admin/logout", data=_form(page))
    browser.cookies.set("hypervisor_admin", stolen, domain="hypervisor.test", path="/admin")
    assert (await browser.get("/admin/user/list")).url.path == "/admin/login"


def _foreign(html: str) -> list[str]:
    """Other hosts from which a browser would load something without a click."""
    loaded = re.findall(r'(?:src|action)="(https?:)?//([^"/]+)', html)
    loaded += re.findall(r'<link[^>]+href="(https?:)?//([^"/]+)', html)
    loaded += re.findall(r"url\(['\"]?(https?:)?//([^)'\"/]+)", html)
    return [host for _, host in loaded if host != "hypervisor.test"]


@ON_SQLITE
async def test_the_newest_rows_are_listed_and_every_row_is_shown_by_its_id(
    api: Api, browser: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "HISTORY_ROWS", 2)
    ada, root = await api.person(), await api.superuser()
    organization = await ada.organization()
    size = {"total_cpu_cores": 4, "total_ram_gb": 8}
    cluster = {"name": "c", "runtime": "simulated", "organization_id": organization, **size}
    ok(await ada.post("/api/v1/clusters", cluster), 201)
    requests = [{"name": f"work-{number}", "command": ["true"]} for number in range(4)]
    created = ok(await ada.post("/api/v1/deployments/batch", {"deployments": requests}), 201)["items"]
    await _log_in(browser, root.username)
    listed = (await browser.get("/admin/deployment/list")).text
    assert "work-2" in listed
    assert "work-3" in listed
    assert "work-1" not in listed
    assert "work-0" in (await browser.get(f"/admin/deployment/detail?pk={created[0]['id']}")).text
