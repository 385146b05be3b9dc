"""`python -m tests.serving.screenshots`: docs/caption-page.png and docs/run-page.png, taken of the real pages."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from playwright.async_api import async_playwright

from pipelines.demo.pictures import demo_samples
from tests.serving.running import half_a_run
from tests.serving.served import served
from tests.serving.test_pages import CHROMIUM, FLAGS

DOCS = Path(__file__).parents[2] / "docs"


async def take(run: str) -> None:
    """Both pages, as a visitor sees them."""
    sign = next(each.media for each in demo_samples() if each.caption == "shop sign template")
    async with (
        served("--engine", "experts", "--metrics-port", "-1", "--run", run) as there,
        async_playwright() as playwright,
    ):
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = await browser.new_page(viewport={"width": 1120, "height": 760})
        await page.goto(there.url)
        await page.set_input_files("#file", {"name": "sign.jpg", "mimeType": "image/jpeg", "buffer": sign})
        await page.wait_for_selector("#result:not([hidden])")
        said = (await there.upload(sign)).json["caption"]
        await page.wait_for_function("(said) => document.getElementById('caption').textContent === said", arg=said)
        await page.wait_for_timeout(500)  # its last words are still appearing
        await page.screenshot(path=DOCS / "caption-page.png")
        await page.set_viewport_size({"width": 1280, "height": 1560})
        await page.goto(there.url + "/run")
        await page.wait_for_selector("#cards article img[src]")
        await page.wait_for_timeout(1000)
        await page.screenshot(path=DOCS / "run-page.png")
        await browser.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(take(half_a_run(Path(folder), shards=4, engine="experts").url))
