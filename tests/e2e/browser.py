"""A Chromium for tests, with a record of the requested hosts and of console messages."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest
from playwright.async_api import ConsoleMessage, Error, Page, Request, Route, async_playwright

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"


@dataclass
class Visit:
    """An open page, the requested hosts, and the errors in its console."""

    page: Page
    hosts: set[str] = field(default_factory=set)
    complaints: list[str] = field(default_factory=list)

    def note_request(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in ("data", "blob"):
            self.hosts.add(parts.netloc)

    def note_console(self, message: ConsoleMessage) -> None:
        # See `_fetch_beside_the_browser`: the rest of a chain of redirects is not fetched there.
        if message.type == "error" and "ERR_NETWORK_CHANGED" not in message.text:
            self.complaints.append(message.text)


async def _fetch_beside_the_browser(route: Route) -> None:
    """Chromium aborts its requests when a network interface changes (ERR_NETWORK_CHANGED), and tests
    with containers beside this one make and remove them.
    """
    with suppress(Error):  # the page was left meanwhile
        await route.fulfill(response=await route.fetch())


@asynccontextmanager
async def visiting() -> AsyncIterator[Visit]:
    """A new browser with one empty page. Skips the test without Chromium."""
    if shutil.which(CHROMIUM) is None:
        pytest.skip(f"no Chromium at {CHROMIUM}: install chromium or set CHROMIUM")
    # Chromium refuses its sandbox to root.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        try:
            visit = Visit(await browser.new_page())
            await visit.page.route("http://**", _fetch_beside_the_browser)
            visit.page.on("request", visit.note_request)
            visit.page.on("console", visit.note_console)
            visit.page.on("pageerror", lambda error: visit.complaints.append(str(error)))
            yield visit
        finally:
            await browser.close()
