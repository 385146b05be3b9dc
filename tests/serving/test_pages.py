"""The pages in a real headless Chromium, with a keyboard, without a network, and before axe-core."""

from __future__ import annotations

import asyncio
import io
import re
import shutil
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from axe_playwright_python.async_playwright import Axe
from PIL import Image
from playwright.async_api import Browser, Page, async_playwright

from tests.clips import plain
from tests.pictures import photo, stored
from tests.serving.running import half_a_run
from tests.serving.served import FAKE, Served, jpeg, served

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync",
         "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]  # fmt: skip
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="needs a Chromium on the PATH: apt-get install chromium")
DROP = """async ([name, bytes, type]) => {
  const data = new DataTransfer();
  data.items.add(new File([Uint8Array.from(atob(bytes), (c) => c.charCodeAt(0))], name, { type }));
  for (const kind of ["dragenter", "dragover", "drop"]) {
    const event = new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true });
    document.getElementById("frame").dispatchEvent(event);
  }
}"""
SEEN = """() => { // how many words stand there each time that the browser gets to look
  window.seen = [];
  const caption = document.getElementById("caption");
  new MutationObserver(() => seen.push(caption.querySelectorAll(".word").length)).observe(caption, { childList: true });
}"""
PHOTOGRAPH = Path(__file__).parents[2] / "pipelines/demo/photos/friends_by_aitzol_berasategi.jpg"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chromium:
    """One browser for all tests, and the loop that it lives in: to start one takes seconds."""

    loop: asyncio.Runner
    browser: Browser

    def run(self, scene: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self.loop.run(scene())

    @asynccontextmanager
    async def at(self, there: Served, path: str = "/") -> AsyncIterator[Page]:
        """A page of the service; what it logs as an error, or asks of another host, fails the test."""
        wrong: list[str] = []
        page = await self.browser.new_page(viewport={"width": 1200, "height": 900})
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on(
            "request", lambda asked: None if asked.url.startswith((there.url, "blob:")) else wrong.append(asked.url)
        )
        page.on("console", lambda said: wrong.append(said.text) if "Content Security Policy" in said.text else None)
        await page.goto(there.url + path)
        yield page
        await page.close()
        assert wrong == []


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    with asyncio.Runner() as loop:
        playwright = loop.run(async_playwright().start())
        browser = loop.run(playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS))
        yield Chromium(loop=loop, browser=browser)
        loop.run(browser.close())
        loop.run(playwright.stop())


async def drop(page: Page, media: bytes, name: str = "holiday.jpg", kind: str = "image/jpeg") -> None:
    from base64 import b64encode

    await page.evaluate(DROP, [name, b64encode(media).decode(), kind])


async def accessible(page: Page) -> None:
    """Raises AssertionError with what axe-core found."""
    # A word that is still fading in has little contrast yet.
    await page.wait_for_function(
        "() => document.getAnimations().every((each) => each.effect.getTiming().iterations === Infinity)"
    )
    results: Any = await Axe().run(page)
    found = [(each["id"], each["nodes"][0]["html"]) for each in results.response["violations"]]
    assert found == []


def test_a_dropped_photograph_is_captioned_by_the_experts_and_the_page_passes_axe(chromium: Chromium) -> None:
    async def scene() -> None:
        async with served("--engine", "experts", "--metrics-port", "-1") as there, chromium.at(there) as page:
            await accessible(page)
            await drop(page, PHOTOGRAPH.read_bytes())
            await page.wait_for_selector("#result:not([hidden])")
            said = (await there.upload(PHOTOGRAPH.read_bytes())).json["caption"]
            await page.wait_for_function("(said) => document.getElementById('caption').textContent === said", arg=said)
            assert "Kept" in await page.inner_text("#badge")
            assert await page.text_content("#said") == f"Kept. {said}"
            assert "dog" in await page.inner_text("#tags") and "s" in await page.inner_text("#times")
            assert "image=@holiday.jpg" in await page.inner_text("#curl")
            assert there.url in await page.inner_text("#python")
            await accessible(page)

    chromium.run(scene)


def still(photograph: Path) -> bytes:
    """A clip of two seconds of a photograph, which any Chromium plays."""
    out = io.BytesIO()
    with av.open(out, "w", format="webm") as container, Image.open(photograph) as picture:
        stream = container.add_stream("libvpx-vp9", rate=1, options={"cpu-used": "8"})
        stream.width, stream.height, stream.pix_fmt = 640, 480, "yuv420p"
        for number in range(2):
            frame = av.VideoFrame.from_ndarray(np.asarray(picture.convert("RGB").resize((640, 480))), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return out.getvalue()


def test_a_dropped_clip_plays_beside_its_caption_and_what_the_experts_saw_when_and_passes_axe(
    chromium: Chromium,
) -> None:
    async def scene() -> None:
        async with served("--engine", "experts", "--metrics-port", "-1") as there, chromium.at(there) as page:
            clip = still(PHOTOGRAPH)
            await drop(page, clip, "holiday.webm", "video/webm")
            await page.wait_for_function("() => document.getElementById('clip').readyState >= 2")
            await page.wait_for_selector("#result:not([hidden])")
            assert await page.is_visible("#clip") and not await page.is_visible("#picture")
            await page.wait_for_function("() => document.getElementById('times').textContent.includes('Frames2')")
            assert "Lasts" in await page.inner_text("#times") and "640 × 480" in await page.inner_text("#times")
            assert re.search(r"dog \d+% at [01]\.0 s", await page.inner_text("#tags"))
            assert not await page.is_visible("#overlay")
            assert "video=@holiday.webm" in await page.inner_text("#curl")
            await accessible(page)
            told = (await there.upload(clip)).json  # as the field image: its first bytes say what it is
            assert told["cached"] is True and told["prompt_id"] == "experts-grammar-1"
            assert [each["second"] for each in told["facts"]["frames"]] == told["frame_times"] == [0.0, 1.0]

    chromium.run(scene)


def test_a_clip_that_the_browser_cannot_play_is_captioned_and_a_broken_one_has_its_reason(chromium: Chromium) -> None:
    async def scene() -> None:
        async with served(*FAKE) as there, chromium.at(there) as page:
            await drop(page, plain(container="flv"), "a.flv", "")
            await page.wait_for_function("() => document.getElementById('badge').textContent.startsWith('Kept')")
            assert "cannot show" in await page.inner_text("#drop") and not await page.is_visible("#clip")
            await drop(page, plain()[:5000], "b.mp4", "video/mp4")
            await page.wait_for_function("() => document.getElementById('badge').textContent.includes('bad_container')")
            await drop(page, jpeg())
            await page.wait_for_function("() => document.getElementById('badge').textContent.startsWith('Kept')")
            assert await page.is_visible("#picture") and not await page.is_visible("#clip")
            assert "image=@holiday.jpg" in await page.inner_text("#curl")

    chromium.run(scene)


def test_words_come_one_by_one_and_at_once_for_who_wants_no_motion(chromium: Chromium) -> None:
    async def scene() -> None:
        async with served(*FAKE) as there, chromium.at(there) as page:
            await page.evaluate(SEEN)
            await drop(page, jpeg())
            said = (await there.upload(jpeg())).json["caption"]
            await page.wait_for_function("(said) => document.getElementById('caption').textContent === said", arg=said)
            assert await page.evaluate("seen") == list(range(1, len(said.split()) + 1))
            await page.emulate_media(reduced_motion="reduce")
            await page.fill("#prompt", "Name the colours.\nThen count the dogs.")
            await drop(page, jpeg(2), "写真 été's; type=x.jpg")
            await page.wait_for_function("() => document.querySelectorAll('#caption .word').length === 0")
            assert "Kept" in await page.inner_text("#badge")
            assert "'image=@写真 été_s_ type_x.jpg'" in await page.inner_text("#curl")

    chromium.run(scene)


def test_a_refused_picture_shows_its_reason_and_a_dropped_caption_its_text(chromium: Chromium) -> None:
    async def scene() -> None:
        async with served(*FAKE, "--length.min-words", "500") as there, chromium.at(there) as page:
            await drop(page, stored(photo(200, 120)))
            await page.wait_for_selector("#result:not([hidden])")
            assert "below_min_resolution" in await page.inner_text("#badge")
            assert "200 × 120" in await page.inner_text("#why") and "Refused" in str(await page.text_content("#said"))
            await accessible(page)
            await drop(page, b"no picture <img src=x onerror=alert(1)>", "<b>.jpg")
            await page.wait_for_function("() => document.getElementById('badge').textContent.includes('undecodable')")
            await drop(page, jpeg())
            await page.wait_for_function("() => document.getElementById('badge').textContent.includes('too_short')")
            assert "would not keep" in await page.inner_text("#badge") and await page.inner_text("#caption")

    chromium.run(scene)


def test_the_page_works_by_keyboard_alone_and_cancels_what_is_under_way(chromium: Chromium) -> None:
    async def scene() -> None:
        async with served(*FAKE, "--fake.seconds", "30") as there, chromium.at(there) as page:
            seen = []
            for _ in range(9):
                await page.keyboard.press("Tab")
                seen.append(
                    await page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()")
                )
            assert seen[0] == "Skip to the content" and "file" in seen
            await page.set_input_files("#file", {"name": "a.jpg", "mimeType": "image/jpeg", "buffer": jpeg()})
            await page.wait_for_selector("#waiting:not([hidden])")
            await page.focus("#cancel")
            await page.keyboard.press("Enter")
            await page.wait_for_function("() => document.getElementById('said').textContent.startsWith('Cancelled')")
            async with asyncio.timeout(2):
                while there.server.service.admission.working:
                    await asyncio.sleep(0.02)
            assert await page.evaluate("document.activeElement.id") == "heading"

    chromium.run(scene)


def test_where_there_is_no_clipboard_a_command_is_selected_and_without_scripts_the_page_says_what_to_do(
    chromium: Chromium,
) -> None:
    async def scene() -> None:
        async with served(*FAKE) as there, chromium.at(there) as page:
            await page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
            await page.click("button[data-copy=curl]")
            await page.wait_for_function("() => getSelection().toString().includes('image=@picture.jpg')")
            assert await page.inner_text("button[data-copy=curl]") == "Selected"
            bare = await chromium.browser.new_context(java_script_enabled=False)
            plain = await bare.new_page()
            await plain.goto(there.url)
            assert "needs JavaScript" in await plain.inner_text("main")
            await bare.close()

    chromium.run(scene)


def test_the_page_of_a_run_shows_its_pictures_and_reasons_and_passes_axe(chromium: Chromium, tmp_path: Path) -> None:
    store = half_a_run(tmp_path, "--fake.looping", "0.3", shards=3)

    async def scene() -> None:
        async with served(*FAKE, "--run", store.url) as there, chromium.at(there, "/run") as page:
            await page.wait_for_selector("#cards article img")
            told = (await there.get("/v1/run")).json
            assert told["read"] == 15 == sum(told["counts"].values()) and told["committed"] == 3
            assert f"{told['counts']['captioned']} of 15 samples captioned" in await page.inner_text("h1")
            shown = await page.query_selector_all("#cards article")
            assert len(shown) == len(told["cards"]) == 15
            await page.click("button[data-show=captioned]")
            await page.wait_for_function(
                "() => !document.querySelector('#cards article:not([data-outcome=captioned]):not([hidden])')"
            )
            await accessible(page)
            assert store.path is not None
            store.path.rename(tmp_path / "away")
            await page.wait_for_function("() => document.getElementById('lead').textContent.includes('cannot be read')")
            await page.goto(there.url + "/docs")
            await accessible(page)

    chromium.run(scene)
