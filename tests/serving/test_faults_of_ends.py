"""A service ends when it must, says why, and what it had accepted hears so in time."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from captioner.errors import ModelChanged
from serving.commands import options_of
from serving.server import server_of
from tests.scripted_engine import ScriptedEngine, caption, hang
from tests.serving.served import FAKE, Served, jpeg, parsed, served
from tests.serving.test_captions import scripted


def test_requests_that_still_wait_at_the_end_are_told_too() -> None:
    async def scene() -> None:
        async with (
            ScriptedEngine(otherwise=hang()) as engine,
            served(*scripted(engine, "--pace.slots", "1", "--pace.decoders", "1")) as there,
        ):
            service = there.server.service
            room = service._room()
            asks = [asyncio.create_task(there.upload(jpeg(n))) for n in range(room + 2)]
            while service.admission.waiting < 2:
                await asyncio.sleep(0.01)
            service.end_by(asyncio.get_running_loop().time() + 0.5)
            late = asyncio.create_task(there.upload(jpeg(99)))
            async with asyncio.timeout(10):
                found = await asyncio.gather(*asks, late)
            assert {(each.status, each.reason) for each in found} == {(504, "deadline_exceeded")}

    asyncio.run(scene())


def test_a_signal_that_comes_before_the_service_listens_ends_it_in_good_order() -> None:
    async def scene() -> None:
        server = server_of(parsed(*FAKE))
        asyncio.get_running_loop().call_soon(server.end)  # while the decoders start
        async with asyncio.timeout(30), server.running() as place:
            assert place.url == ""
            await server.until_asked()

    asyncio.run(scene())


def test_a_deadline_that_has_just_passed_does_not_keep_the_end_from_coming() -> None:
    async def scene() -> None:
        async with ScriptedEngine() as engine, served(*scripted(engine)) as there:
            service, loop = there.server.service, asyncio.get_running_loop()

            async def passed() -> None:
                async with service.within(loop.time() + 30):
                    next(iter(service._timeouts)).reschedule(loop.time())
                    loop.call_later(0, service.end_by, loop.time() + 1)
                    await asyncio.sleep(10)

            wrong: list[object] = []
            loop.set_exception_handler(lambda loop, context: wrong.append(context["message"]))
            with pytest.raises(TimeoutError):
                await passed()
            assert not wrong and service._ends < loop.time() + 2

    asyncio.run(scene())


def test_an_engine_that_serves_another_model_all_at_once_ends_the_service_with_that_reason() -> None:
    async def scene() -> None:
        async with ScriptedEngine() as engine, served(*scripted(engine)) as there:
            assert (await there.upload(jpeg(1))).status == 200
            await engine.stop()
            engine.model = "another"
            await engine.start()
            found = await there.upload(jpeg(2))
            assert (found.status, found.reason) == (503, "engine_unavailable")
            async with asyncio.timeout(10):
                await there.server.until_asked()
            lost = there.server.service.engine.lost
            assert isinstance(lost, ModelChanged) and lost.exit_code == 2

    asyncio.run(scene())


def test_what_another_engine_still_works_on_when_one_is_lost_gets_a_504_and_no_bare_500() -> None:
    async def scene() -> None:
        async with ScriptedEngine(otherwise=hang()) as engine, aiohttp.ClientSession() as session:
            server = server_of(options_of(["--port", "0", *scripted(engine, "--drain-seconds", "1")]))
            async with server.running() as place:
                there = Served(url=place.url, server=server, session=session, metrics="")
                await there.ready()
                ask = asyncio.create_task(there.upload(jpeg()))
                while not engine.asked:
                    await asyncio.sleep(0.01)
                server.service.engine.lost = ModelChanged("as a second engine would have it")
                await server.until_asked()
            found = await ask
            assert (found.status, found.reason) == (504, "deadline_exceeded")

    asyncio.run(scene())


def test_readyz_says_yes_while_a_canary_still_sings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.engine.QUIET_SECONDS", 0.1)

    async def scene() -> None:
        async with ScriptedEngine() as engine, served(*scripted(engine)) as there:
            engine.canary = caption(seconds=2.0)
            proofs = len(engine.proofs)
            async with asyncio.timeout(10):
                while len(engine.proofs) == proofs:
                    await asyncio.sleep(0.01)
            assert (await there.get("/readyz")).status == 200 and engine.in_flight == 1

    asyncio.run(scene())


def test_an_engine_that_dies_while_a_canary_sings_is_a_503_as_soon_as_any_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("serving.engine.QUIET_SECONDS", 0.1)
    monkeypatch.setattr("serving.engine.CANARY_SECONDS", 1000.0)

    async def scene() -> None:
        async with ScriptedEngine() as engine, served(*scripted(engine)) as there:
            engine.canary = hang()
            proofs = len(engine.proofs)
            async with asyncio.timeout(20):
                while len(engine.proofs) == proofs:
                    await asyncio.sleep(0.01)
                await engine.stop()
                found = await there.upload(jpeg(2))
            assert (found.status, found.reason) == (503, "engine_unavailable")

    asyncio.run(scene())


def test_an_engine_that_breaks_on_a_canary_is_still_watched_and_shows_in_readyz(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("serving.engine.QUIET_SECONDS", 1.0)

    async def scene() -> None:
        async with served(*FAKE, "--fake.buggy", "1") as there:
            async with asyncio.timeout(10):
                while (await there.get("/readyz")).status != 503:
                    await asyncio.sleep(0.05)

    asyncio.run(scene())
