"""What callers send and when they leave: bounded by their own deadline, counted as held, and never our error."""

from __future__ import annotations

import asyncio
import logging
from base64 import b64encode

import pytest

from captioner.prompts import MAX_CHARACTERS
from serving.fetching import Fetcher
from serving.problems import Problem
from serving.repeats import Repeats
from serving.settings import Fetching
from tests.scripted_engine import ScriptedEngine, hang
from tests.serving.served import FAKE, in_base64, jpeg, served
from tests.serving.test_captions import scripted
from tests.serving.test_faults_of_bodies import FORM, HEAD
from tests.serving.test_faults_of_urls import redirect, refused, site


def test_text_in_many_parts_is_as_bounded_as_text_in_one() -> None:
    text = {"type": "text", "text": "a " * (MAX_CHARACTERS // 2 - 1)}
    picture = {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64," + b64encode(jpeg()).decode()}}

    async def scene() -> None:
        async with served(*FAKE) as there:
            for parts, status in (1, 200), (2, 422):
                asked = {"model": "x", "messages": [{"role": "user", "content": [picture, *[text] * parts]}]}
                assert (await there.post(asked, path="/v1/chat/completions")).status == status

    asyncio.run(scene())


def test_who_joins_a_request_under_way_keeps_a_deadline_of_its_own() -> None:
    async def scene() -> None:
        async with ScriptedEngine() as engine, served(*scripted(engine)) as there:
            engine.then(hang())
            first = asyncio.create_task(there.upload(jpeg(), X_Deadline_Seconds="1.5"))
            while not engine.asked:
                await asyncio.sleep(0.01)
            later = await there.upload(jpeg(), X_Deadline_Seconds="30")
            assert (await first).reason == "deadline_exceeded" and later.status == 200
            assert len(engine.asked) == 2

    asyncio.run(scene())


def test_a_joiner_s_shorter_deadline_ends_its_wait_and_nobody_else_s() -> None:
    async def scene() -> None:
        repeats: Repeats[str] = Repeats(10, 60)
        loop, gate = asyncio.get_running_loop(), asyncio.Event()

        async def make() -> str:
            await gate.wait()
            return "made"

        first = asyncio.create_task(repeats.once("k", make, loop.time() + 30))
        await asyncio.sleep(0)
        async with asyncio.timeout(5):
            with pytest.raises(Problem, match="deadline_exceeded"):
                await repeats.once("k", make, loop.time() + 0.05)
        gate.set()
        assert await first == ("made", False)

    asyncio.run(scene())


def test_bytes_that_are_still_to_come_count_as_held_and_a_slow_body_ends_at_its_deadline() -> None:
    async def scene() -> None:
        async with served(*FAKE, "--held-mib", "1", "--body-mib", "1") as there:
            slow = asyncio.create_task(
                there.raw(HEAD + FORM + b"X-Deadline-Seconds: 1\r\nContent-Length: 1000000\r\n\r\n--b")
            )
            async with asyncio.timeout(10):
                while not there.server.service._held:
                    await asyncio.sleep(0.01)
                assert (await there.upload(jpeg() + b"\0" * 100_000)).reason == "overloaded"
                answer = await slow
            assert answer.startswith(b"HTTP/1.1 504 ") and b"deadline_exceeded" in answer
            assert there.server.service._held == 0

    asyncio.run(scene())


def test_a_slow_url_ends_at_the_request_s_deadline() -> None:
    async def scene() -> None:
        async with served(*FAKE, "--allow-urls") as there:

            async def never(host: str, port: int) -> list[str]:
                await asyncio.sleep(60)
                return []

            front = there.server.front
            slow = Fetcher(settings=Fetching(allow_urls=True), most_bytes=2**20, resolve=never)
            object.__setattr__(front, "fetcher", slow)
            found = await there.post({"image": {"url": "https://good.example/a.jpg"}}, X_Deadline_Seconds="1")
            assert (found.status, found.reason) == (504, "deadline_exceeded")

    asyncio.run(scene())


def test_a_host_and_an_origin_with_an_open_bracket_are_refused_and_no_error_of_ours() -> None:
    async def scene() -> None:
        async with served(*FAKE) as there:
            for head in (b"Host: [\r\n", b"Host: 127.0.0.1\r\nOrigin: http://[\r\n"):
                answer = await there.raw(b"GET /v1/engines HTTP/1.1\r\n" + head + b"Connection: close\r\n\r\n")
                assert answer.startswith(b"HTTP/1.1 403 ") and b"forbidden_origin" in answer

    asyncio.run(scene())


def test_a_path_with_a_slash_too_many_is_a_404_and_leads_nowhere() -> None:
    async def scene() -> None:
        async with served(*FAKE) as there:
            for path in ("/docs/", "/v1/engines/"):
                found = await there.get(path)
                assert (found.status, found.reason) == (404, "not_found") and "location" not in found.headers

    asyncio.run(scene())


def test_a_redirect_with_an_open_bracket_is_a_url_that_is_not_allowed() -> None:
    async def scene() -> None:
        async with site() as there:
            there.reply = redirect("http://[x/")
            found = await refused(there.fetcher(), f"http://good.example:{there.port}/a.jpg")
            assert found.reason == "url_not_allowed" and len(there.heads) == 1

    asyncio.run(scene())


def test_a_client_that_leaves_is_no_error_of_ours(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def scene() -> None:
        async with ScriptedEngine(otherwise=hang()) as engine, served(*scripted(engine)) as there:
            _, writer = await asyncio.open_connection("127.0.0.1", there.port)
            writer.write(HEAD + FORM + b"Content-Length: 1000\r\n\r\n--b")
            await asyncio.sleep(0.2)
            writer.close()  # while its body is read
            ask = asyncio.create_task(there.post(in_base64(jpeg())))
            while not engine.asked:
                await asyncio.sleep(0.01)
            ask.cancel()  # while the engine works
            async with asyncio.timeout(5):
                while caplog.text.count("reason=client_left") < 2:
                    await asyncio.sleep(0.01)

    asyncio.run(scene())
    assert "status=500" not in caplog.text and "Traceback" not in caplog.text and caplog.text.count("status=499") == 2
