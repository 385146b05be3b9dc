"""Who leaves, stalls or shares at the wrong moment harms nobody else."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress

import aiohttp
import pytest

from captioner.errors import EngineUnavailable
from serving.admission import Admission
from serving.keys import Key
from serving.problems import Problem
from serving.shares import Shares
from tests.serving.served import FAKE, in_a_process, served


def test_who_leaves_the_queue_leaves_nothing_that_breaks_who_comes_after() -> None:
    async def scene() -> None:
        admission, hold = Admission(lambda: 1, queue=64), asyncio.Event()
        deadline = asyncio.get_running_loop().time() + 30

        async def one(tenant: str) -> str:
            async with admission.enter(tenant, deadline):
                await hold.wait()
            return tenant

        first, leaver = asyncio.create_task(one("first")), asyncio.create_task(one("leaver"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        leaver.cancel()
        with suppress(asyncio.CancelledError):
            await leaver
        last = asyncio.create_task(one("last"))
        await asyncio.sleep(0)
        hold.set()
        async with asyncio.timeout(5):
            assert [await first, await last] == ["first", "last"]
        assert admission.working == admission.waiting == 0

    asyncio.run(scene())


def test_room_that_has_grown_is_given_to_who_waits_when_the_next_one_comes() -> None:
    async def scene() -> None:
        room, inside, hold = [1], [], asyncio.Event()
        admission, deadline = Admission(lambda: room[0], queue=64), asyncio.get_running_loop().time() + 30

        async def one(tenant: str) -> None:
            async with admission.enter(tenant, deadline):
                inside.append(tenant)
                await hold.wait()

        tasks = [asyncio.create_task(one(tenant)) for tenant in ("first", "waiter")]
        await asyncio.sleep(0)
        room[0] = 8
        tasks.append(asyncio.create_task(one("last")))
        async with asyncio.timeout(5):
            while len(inside) < 3:
                await asyncio.sleep(0)
        hold.set()
        await asyncio.gather(*tasks)
        assert inside[0] == "first" and admission.working == admission.waiting == 0

    asyncio.run(scene())


def test_clients_that_ask_and_never_read_are_cut_off_and_their_places_go_to_others() -> None:
    async def scene() -> None:
        async with served(*FAKE, "--connections", "3", "--body-seconds", "0.5") as there:
            deaf = []
            for _ in range(3):
                one = socket.socket()
                one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
                one.setblocking(False)
                await asyncio.get_running_loop().sock_connect(one, ("127.0.0.1", there.port))
                one.send(b"GET /openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 400)
                deaf.append(one)
            await asyncio.sleep(0.2)
            asked = b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
            try:
                async with asyncio.timeout(10):
                    answer = b""
                    while not answer.startswith(b"HTTP/1.1 200 "):
                        await asyncio.sleep(0.1)
                        with suppress(ConnectionError):
                            answer = await there.raw(asked)
            finally:
                for one in deaf:
                    one.close()

    asyncio.run(scene())


def test_connections_that_owe_a_body_after_its_answer_are_closed_and_keep_no_place() -> None:
    async def scene() -> None:
        async with served(*FAKE) as there:
            reader, writer = await asyncio.open_connection("127.0.0.1", there.port)
            writer.write(b"POST /nothing HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 500000\r\n\r\n")
            assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 404 ")
            ending = asyncio.create_task(reader.read())
            async with asyncio.timeout(10):
                while not ending.done():
                    writer.write(b"x")
                    await asyncio.sleep(0.1)
            with suppress(ConnectionError):
                assert await ending == b""
            writer.close()

    asyncio.run(scene())


def test_a_body_that_breaks_after_its_answer_gets_no_second_answer() -> None:
    async def scene() -> None:
        async with served(*FAKE) as there:
            reader, writer = await asyncio.open_connection("127.0.0.1", there.port)
            head = b"POST /nothing HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"
            writer.write(head + b"5\r\nhello\r\n")
            first = await reader.readuntil(b"}")
            writer.write(b"no chunk\r\n")
            with suppress(ConnectionError):
                first += await asyncio.wait_for(reader.read(), 5)
            writer.close()
            assert first.startswith(b"HTTP/1.1 404 ") and first.count(b"HTTP/1.1") == 1

    asyncio.run(scene())


def test_scrapers_that_say_nothing_keep_no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.metrics._Scrape.timeout", 0.3)

    async def scene() -> None:
        async with served("--engine", "fake", "--metrics-port", "0") as there:
            host, port = there.metrics.removeprefix("http://").removesuffix("/metrics").split(":")
            silent = [await asyncio.open_connection(host, int(port)) for _ in range(4)]
            async with asyncio.timeout(10):
                for reader, _ in silent:
                    assert await reader.read() == b""  # and with it its thread
            async with there.session.get(there.metrics) as response:
                assert response.status == 200 and "recap_service_ready 1.0" in await response.text()
            for _, writer in silent:
                writer.close()

    asyncio.run(scene())


def test_a_burst_of_connections_leaves_no_more_open_than_there_may_be() -> None:
    async def scene() -> None:
        async with served(*FAKE, "--connections", "5") as there:
            burst = [socket.socket() for _ in range(10)]
            try:
                for at_once in (burst[:5], burst[5:]):
                    for one in at_once:
                        one.setblocking(False)
                        one.connect_ex(("127.0.0.1", there.port))
                    await asyncio.sleep(0.3)
                still = 0
                for one in burst:
                    with suppress(ConnectionError):
                        try:
                            one.recv(4096)
                        except BlockingIOError:
                            still += 1
                assert still <= 5
            finally:
                for one in burst:
                    one.close()

    asyncio.run(scene())


FEW_FILES = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (300, 320))
from pipelines.cli import recap
sys.exit(recap())
"""


def test_with_few_files_silent_connections_still_make_room_for_others() -> None:
    async def scene() -> None:
        async with in_a_process(*FAKE, program=("-c", FEW_FILES)) as (_, url):
            port = int(url.rpartition(":")[2])
            silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(340)]
            for _, writer in silent:
                writer.write(b"GET / HT")
            timeout = aiohttp.ClientTimeout(total=8)
            async with aiohttp.ClientSession(timeout=timeout) as session, session.get(f"{url}/livez") as response:
                assert response.status == 200
            for _, writer in silent:
                writer.close()

    asyncio.run(scene())


def test_a_key_without_a_rate_leaves_that_of_its_tenant_s_other_key_alone() -> None:
    now = 0.0
    shares = Shares(clock=lambda: now)
    slow = Key(name="slow", tenant="t", sha256="0" * 64, a_minute=60)
    free = Key(name="free", tenant="t", sha256="1" * 64, a_minute=0)
    for _ in range(30):
        now += 2
        with shares.take(free), shares.take(slow):
            pass
    with pytest.raises(Problem, match="rate_limited"):
        for _ in range(61):
            with shares.take(slow):
                pass


def test_a_tenant_pays_for_no_pixels_that_no_engine_was_there_for() -> None:
    shares = Shares()
    key = Key(name="a", tenant="a", sha256="0" * 64, megapixels_a_day=1)
    for error, booked in ((EngineUnavailable("gone"), 0), (ValueError("a bug of ours"), 900_000)):
        with pytest.raises(type(error)), shares.booking(key, 2_000_000) as booking:
            booking.correct(900_000)
            raise error
        assert shares._taken["a"].pixels == booked
