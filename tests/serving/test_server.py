"""The process: how it starts, how it is refused, and how it ends without losing what it accepted."""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest
from rich.console import Console

from captioner.errors import OutOfService, Refused
from serving.commands import options_of, serve
from serving.server import server_of
from tests.processes import ROOT, run
from tests.scripted_engine import ScriptedEngine, caption, gated
from tests.serving.served import FAKE, in_a_process, jpeg, served
from tests.serving.test_captions import scripted


async def _ask(session: aiohttp.ClientSession, url: str, number: int) -> int:
    async with session.post(f"{url}/v1/captions", data={"image": jpeg(number)}) as response:
        await response.read()
        return response.status


async def _ready(session: aiohttp.ClientSession, url: str) -> None:
    async with asyncio.timeout(30):
        while True:
            async with session.get(f"{url}/readyz") as response:
                if response.status == 200:
                    return
            await asyncio.sleep(0.05)


def test_sigterm_finishes_what_was_accepted_and_ends_with_exit_code_0() -> None:
    async def scene() -> None:
        gate = asyncio.Event()
        async with (
            ScriptedEngine(otherwise=gated(gate, caption())) as engine,
            in_a_process(*scripted(engine, "--leave-seconds", "1")) as (process, url),
            aiohttp.ClientSession() as session,
        ):
            await _ready(session, url)
            asks = [asyncio.create_task(_ask(session, url, n)) for n in range(12)]
            while len(engine.asked) < 12:
                await asyncio.sleep(0.02)
            process.send_signal(signal.SIGTERM)
            status = 200
            while status == 200:  # a balancer looks away, while new work is still taken
                async with session.get(f"{url}/readyz") as response:
                    status = response.status
            assert status == 503
            late = asyncio.create_task(_ask(session, url, 99))
            while len(engine.asked) < 13:
                await asyncio.sleep(0.02)
            gate.set()
            assert await asyncio.gather(*asks, late) == [200] * 13
            assert await asyncio.wait_for(process.wait(), 30) == 0
            with pytest.raises(aiohttp.ClientConnectorError):
                await _ask(session, url, 100)

    asyncio.run(scene())


def test_a_second_signal_ends_it_at_once() -> None:
    async def scene() -> None:
        async with (
            ScriptedEngine(otherwise=caption(seconds=60)) as engine,
            in_a_process(*scripted(engine)) as (process, url),
            aiohttp.ClientSession() as session,
        ):
            await _ready(session, url)
            ask = asyncio.create_task(_ask(session, url, 1))
            while not engine.asked:
                await asyncio.sleep(0.02)
            process.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.3)
            assert process.returncode is None
            process.send_signal(signal.SIGTERM)
            await asyncio.wait_for(process.wait(), 5)
            with suppress(aiohttp.ClientError):
                assert await ask != 200

    asyncio.run(scene())


REFUSED = [
    (("--host", "0.0.0.0"), "is not the loopback"),
    (("--keys", "/nowhere/keys.json"), "is not there"),
    (("--engine", "vllm", "--model", "m", "--endpoints", "http://127.0.0.1:9"), "no preset is known"),
    (("--engine", "vllm", "--model", "qwen2-vl"), "wants --endpoints here, or --run"),
    (("--queue", "-1"), "0 or more would be right"),
    (("--url-networks", "10.0.0.1/8"), "--url-networks"),
    (("--run", "/nowhere/run"), "no run at"),
]


def test_what_does_not_fit_is_refused_before_anything_listens() -> None:
    for words, said in REFUSED:
        with pytest.raises(Refused, match=said):
            serve([*FAKE, "--port", "0", *words], Console())


def test_a_refusal_is_exit_code_2_and_one_line() -> None:
    found = run(sys.executable, "-m", "pipelines", "serve", "--host", "0.0.0.0", cwd=ROOT)
    assert found.returncode == 2 and found.stderr.startswith("Refused: ") and found.stderr.count("\n") == 1


def test_what_is_not_done_when_the_time_to_drain_is_over_gets_a_504() -> None:
    async def scene() -> None:
        async with (
            ScriptedEngine(otherwise=caption(seconds=60)) as engine,
            served(*scripted(engine, "--drain-seconds", "1")) as there,
        ):
            ask = asyncio.create_task(there.upload(jpeg()))
            while not engine.asked:
                await asyncio.sleep(0.02)
            there.server.end()
            found = await ask
            assert (found.status, found.reason) == (504, "deadline_exceeded") and engine.in_flight == 0

    asyncio.run(scene())


def test_a_port_that_is_taken_is_told() -> None:
    async def scene() -> None:
        async with served(*FAKE) as there:
            second = server_of(options_of([*FAKE, "--port", str(there.port)]))
            with pytest.raises(OutOfService, match="is taken: another --port") as found:
                async with second.running():
                    raise AssertionError("it listens")
            assert found.value.exit_code == 3

    asyncio.run(scene())


def test_an_engine_with_another_model_ends_the_service_with_exit_code_2() -> None:
    async def scene() -> None:
        async with ScriptedEngine(model="other") as engine:
            words = [each if each != "other" else "asked" for each in scripted(engine)]
            async with in_a_process(*words) as (process, _):
                assert process.stderr is not None
                _, errors = await asyncio.wait_for(process.communicate(), 30)
                assert process.returncode == 2 and b"model_changed" in errors

    asyncio.run(scene())


def test_a_key_is_shown_once_and_kept_as_its_hash(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["keys", "add", str(tmp_path / "keys.json"), "alice", "--days", "7"]
    assert serve(words, Console()) == 0
    key = capsys.readouterr().out.strip()
    assert key.startswith("recap_") and key not in (tmp_path / "keys.json").read_text()
    with pytest.raises(Refused, match="already"):
        serve(words, Console())
