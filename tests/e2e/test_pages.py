"""The documentation and the admin pages in a real browser, without requests to other servers."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import pytest
from playwright.async_api import expect

from hypervisor.client import Client
from tests.e2e.browser import visiting
from tests.e2e.cli_user import PASSWORD
from tests.support.server import HypervisorServer
from tests.support.wait import PROMPT

pytestmark = pytest.mark.browser


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/docs", "MLOps Hypervisor"),
        ("/swagger/", "MLOps Hypervisor"),
        ("/redoc", "MLOps Hypervisor"),
        ("/admin/login", "Username"),
    ],
)
async def test_a_page_loads_nothing_from_other_servers(
    shared_server: HypervisorServer, path: str, shown: str
) -> None:
    async with visiting() as visit:
        await visit.page.goto(f"{shared_server.url}{path}", wait_until="networkidle")
        await expect(visit.page.get_by_text(shown).first).to_be_visible(timeout=PROMPT * 1000)

    assert visit.hosts == {urlsplit(shared_server.url).netloc}
    assert visit.complaints == []


async def test_the_docs_list_the_operations_and_a_login_makes_them_callable(
    shared_server: HypervisorServer,
) -> None:
    with Client(shared_server.url) as client:
        client.accounts.register("grace", "grace@example.com", PASSWORD)
    async with visiting() as visit:
        page = visit.page
        await page.goto(f"{shared_server.url}/docs", wait_until="networkidle")
        await page.get_by_role("button", name="Authorize").first.click()
        dialog = page.locator(".modal-ux")
        await dialog.locator("input[autocomplete=username], #oauth_username").first.fill("grace")
        await dialog.locator("input[type=password]").first.fill(PASSWORD)
        await dialog.get_by_role("button", name="Apply given OAuth2 credentials").click()
        await expect(dialog.get_by_role("button", name="Remove authorization")).to_be_visible(
            timeout=PROMPT * 1000
        )
        await dialog.get_by_role("button", name="Close").click()

        operation = page.locator(".opblock", has_text="/api/v1/auth/me").first
        await operation.locator(".opblock-summary-control").click()
        await operation.get_by_role("button", name="Execute").click()
        answer = operation.locator(".live-responses-table")
        await expect(answer).to_contain_text(re.compile('"username": *"grace"'), timeout=PROMPT * 1000)

    assert visit.hosts == {urlsplit(shared_server.url).netloc}
