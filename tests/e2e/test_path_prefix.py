"""The server under a path of a proxy, in a real browser and for the command line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest
from playwright.async_api import expect

from tests.e2e.browser import visiting
from tests.e2e.cli_user import PASSWORD, registered_user
from tests.support import forkserver
from tests.support.path_proxy import path_proxy
from tests.support.server import HypervisorServer, running_server
from tests.support.servers import free_port
from tests.support.wait import PROMPT

MS = PROMPT * 1000


STRIPPED = pytest.param(("/hv", True, True), id="stripped")
OTHER_HOST = pytest.param(("/hv", True, False), id="stripped, other host")
NOT_STRIPPED = pytest.param(("/hv", False, True), id="not stripped")
ENCODED = pytest.param(("/ml%20ops/hv", True, True), id="encoded, stripped")
ENCODED_NOT_STRIPPED = pytest.param(("/ml%20ops/hv", False, False), id="encoded, not stripped")
API = pytest.param(("/api", True, True), id="api, stripped")
API_NOT_STRIPPED = pytest.param(("/api", False, True), id="api, not stripped")

under_every_prefix = pytest.mark.parametrize(
    "public",
    [STRIPPED, OTHER_HOST, NOT_STRIPPED, ENCODED, ENCODED_NOT_STRIPPED, API, API_NOT_STRIPPED],
    indirect=True,
    scope="module",
)


@pytest.fixture(scope="module")
def public(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, HypervisorServer]]:
    """The URL of a server below a path of a proxy, and the server; `root` is a superuser."""
    prefix, strips, passes_host = request.param
    port = free_port()
    url = f"http://127.0.0.1:{port}{prefix}"
    with running_server(tmp_path_factory.mktemp("server"), PUBLIC_URL=f"{url}/") as server:
        _create_superuser(server)
        with path_proxy(prefix, server.url, port=port, strips=strips, passes_host=passes_host):
            yield url, server


@under_every_prefix
def test_every_link_has_the_prefix(public: tuple[str, HypervisorServer]) -> None:
    url, _ = public
    prefix = urlsplit(url).path
    landing = httpx2.get(url).json()
    for name in ("docs", "reference", "openapi", "admin"):
        assert landing[name].startswith(f"{prefix}/")
        page = httpx2.get(str(httpx2.URL(url).join(landing[name])), follow_redirects=True)
        assert page.status_code == 200, name
        for link in re.findall(r'(?:href|src|spec-url)="([^"#]+)"', page.text):
            assert link.startswith((f"{prefix}/", "data:", "?")), (name, link)
    document = httpx2.get(f"{url}/openapi.json").json()
    assert document["servers"] == [{"url": prefix}]
    [scheme] = [one for one in document["components"]["securitySchemes"].values() if "flows" in one]
    assert scheme["flows"]["password"]["tokenUrl"] == f"{prefix}/api/v1/auth/login"
    redirect = httpx2.get(f"{url}/admin/user/list")
    assert redirect.headers["location"].startswith(f"{prefix}/admin/login?next=")
    for path in ("/docs/", "//docs", "/healthz", "/hv/../docs", "/api/v1/auth/me"):
        assert httpx2.get(f"{url}{path}").status_code in (200, 401), path


@under_every_prefix
def test_the_server_answers_without_the_proxy_too(public: tuple[str, HypervisorServer]) -> None:
    _, server = public
    for path in ("/docs", "/healthz", "/openapi.json", "/static/docs/swagger-ui.css"):
        assert httpx2.get(f"{server.url}{path}").status_code == 200, path


@under_every_prefix
def test_the_command_line_works_under_the_prefix(
    public: tuple[str, HypervisorServer], tmp_path: Path
) -> None:
    url, server = public
    ada = registered_user(tmp_path, url, "ada")
    ada.run_ok("org", "create", "Team")
    assert ada.run_json("whoami")["username"] == "ada"
    # The report URL of workloads is PUBLIC_URL itself.
    assert server.settings["PUBLIC_URL"] == f"{url}/"


@pytest.mark.browser
@pytest.mark.parametrize("public", [OTHER_HOST, ENCODED_NOT_STRIPPED], indirect=True, scope="module")
async def test_the_pages_work_in_a_browser(public: tuple[str, HypervisorServer]) -> None:
    url, _ = public
    async with visiting() as visit:
        page = visit.page
        await page.goto(f"{url}/docs", wait_until="networkidle")
        await page.get_by_role("button", name="Authorize").first.click()
        dialog = page.locator(".modal-ux")
        await dialog.locator("input[autocomplete=username], #oauth_username").first.fill("root")
        await dialog.locator("input[type=password]").first.fill(PASSWORD)
        await dialog.get_by_role("button", name="Apply given OAuth2 credentials").click()
        await expect(dialog.get_by_role("button", name="Remove authorization")).to_be_visible(timeout=MS)
        await dialog.get_by_role("button", name="Close").click()
        operation = page.locator(".opblock", has_text="/api/v1/auth/me").first
        await operation.locator(".opblock-summary-control").click()
        await operation.get_by_role("button", name="Execute").click()
        answer = operation.locator(".live-responses-table")
        await expect(answer).to_contain_text(re.compile('"username": *"root"'), timeout=MS)

        await page.goto(f"{url}/redoc", wait_until="networkidle")
        await expect(page.get_by_text("MLOps Hypervisor").first).to_be_visible(timeout=MS)

        await page.goto(f"{url}/admin/user/list", wait_until="networkidle")
        await page.locator("input[name=username]").fill("root")
        await page.locator("input[name=password]").fill(PASSWORD)
        await page.locator("button[type=submit]").click()
        await expect(page.get_by_text("root@example.com").first).to_be_visible(timeout=MS)
        assert urlsplit(page.url).path == f"{urlsplit(url).path}/admin/user/list"
        await page.get_by_role("link", name="Organization").first.click()
        await page.wait_for_url(re.compile(re.escape(url) + "/admin/organization/list"), timeout=MS)

    assert visit.hosts == {urlsplit(url).netloc}


def _create_superuser(server: HypervisorServer) -> None:
    environment = server.environment | {"HYPERVISOR_PASSWORD": PASSWORD}
    arguments = ("create-superuser", "--username", "root", "--email", "root@example.com")
    code, _, stderr = forkserver.run(arguments, environment, server.folder, stdin="", within=PROMPT)
    assert code == 0, stderr
