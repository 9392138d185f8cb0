"""The simulator's report in a real browser."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from hypervisor.cli.main import run
from tests.e2e.browser import visiting
from tests.support.simulation import write

pytestmark = pytest.mark.browser

OVERFLOWING = """() => [...document.querySelectorAll('svg text')].filter((text) => {
    const box = text.getBoundingClientRect(), svg = text.ownerSVGElement.getBoundingClientRect();
    return box.left < svg.left - 1 || box.right > svg.right + 1 || box.bottom > svg.bottom + 1;
}).map((text) => text.textContent)"""

OVERLAPPING = """() => [...document.querySelectorAll('svg')].flatMap((svg) => {
    const texts = [...svg.querySelectorAll("text")].map((text) =>
        [text.textContent, text.getBoundingClientRect()]);
    return texts.flatMap(([name, a], i) => texts.slice(i + 1).filter(([, b]) =>
        Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 &&
        Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 4).map(([other]) => `${name} / ${other}`));
})"""


@pytest.fixture
def report(tmp_path: Path) -> Path:
    """Two runs of a busy day, with evictions, rejections and a long name."""
    rng = random.Random(5)
    rows = [
        f"{rng.uniform(0, 86_400):.1f},{rng.expovariate(1 / 7200):.1f},"
        f"{rng.choice(['vision', 'speech', 'a-very-long-organization-name'])},"
        f"{rng.choice(['LOW', 'MEDIUM', 'CRITICAL'])},{rng.choice([1, 2])},4,{rng.choice([1, 1, 2, 4, 16])}"
        for _ in range(300)
    ]
    header = "arrival_seconds,duration_seconds,organization,priority,cpu_cores,ram_gb,gpu_count"
    jobs = write(tmp_path / "jobs.csv", header, *rows)
    page = tmp_path / "report.html"
    arguments = [
        "-w",
        str(jobs),
        "-n",
        "3x8gpu,32cpu,128gb",
        "--vs",
        "spread,no-preemption",
        "--html",
        str(page),
    ]
    assert run(["simulate", *arguments]) == 0
    return page


@pytest.mark.parametrize("width", [1360, 800])
async def test_the_report_shows_all_charts_and_sends_no_request(report: Path, width: int) -> None:
    async with visiting() as visit:
        page = visit.page
        await page.set_viewport_size({"width": width, "height": 900})
        await page.goto(report.as_uri(), wait_until="networkidle")
        await expect(page.get_by_role("heading", name="Simulation of jobs.csv")).to_be_visible()
        for title in (
            "Utilization over time",
            "Fragmentation over time",
            "Waiting jobs over time",
            "Waits by priority",
            "Waits by organization",
            "Evictions",
            "Lost work",
        ):
            await _check_section(page, title)
        await expect(page.locator(".legend")).to_have_text("GPUCPURAM")
        await expect(page.locator(".warning")).to_contain_text("set the number of replicas")
        assert await page.evaluate(OVERFLOWING) == []
        assert await page.evaluate(OVERLAPPING) == []
        assert await page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")

    assert visit.hosts == {""}
    assert visit.complaints == []


async def _check_section(page: Page, title: str) -> None:
    """Check that both runs are side by side, each with a chart that is not empty."""
    section = page.locator("section", has=page.get_by_role("heading", name=title, exact=True))
    await expect(section.locator("figcaption")).to_have_text(["fgd", "spread, no preemption"])
    charts = section.locator("svg")
    await expect(charts).to_have_count(2)
    box = await charts.first.bounding_box()
    assert box is not None
    assert box["width"] > 300
    assert box["height"] > 100
    assert await charts.first.locator("path, rect, circle").count() > 0


async def test_the_pointer_shows_the_values_at_its_position(report: Path) -> None:
    async with visiting() as visit:
        page = visit.page
        await page.goto(report.as_uri())
        await page.locator("svg[data-chart]").first.hover()
        await expect(page.locator("#tip")).to_contain_text("GPU:")
        await expect(page.locator("#tip")).to_contain_text("%")
        await page.mouse.move(1, 1)
        await expect(page.locator("#tip")).to_be_hidden()
    assert visit.complaints == []
