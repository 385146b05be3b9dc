"""Our CPU a request to a served model, beside a plain aiohttp script's; the engine is scripted, in its own process."""

from __future__ import annotations

import argparse
import asyncio
import base64
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable

import aiohttp

from captioner.engines.replica import HttpReplica
from captioner.types import CaptionRequest, Picture, Sampling

JPEG = os.urandom(120_000)  # bytes as many as a picture of 1 MP; nobody decodes them here
PROMPT = "Describe this picture in detail. " * 10
REQUEST = CaptionRequest(
    images=(Picture(jpeg=JPEG, width=1008, height=1008),),
    prompt=PROMPT,
    sampling=Sampling(max_tokens=512),
    media_sha256="",
)
IN_FLIGHT = 32
ROUNDS = 5

Ask = Callable[[], Awaitable[object]]


async def milliseconds(ask: Ask, requests: int) -> float:
    """CPU of this process a request, with IN_FLIGHT at once."""
    left = iter(range(requests))

    async def one_after_another() -> None:
        for _ in left:
            await ask()

    started = time.process_time()
    await asyncio.gather(*(one_after_another() for _ in range(IN_FLIGHT)))
    return (time.process_time() - started) / requests * 1e3


def plain(session: aiohttp.ClientSession, url: str) -> Ask:
    """What one would write: a dict, json=, and the text out of the answer."""

    async def ask() -> object:
        picture = {"url": "data:image/jpeg;base64," + base64.b64encode(JPEG).decode()}
        content = [{"type": "image_url", "image_url": picture}, {"type": "text", "text": PROMPT}]
        body = {"model": "tiny", "messages": [{"role": "user", "content": content}], "max_tokens": 512}
        async with session.post(f"{url}/v1/chat/completions", json=body) as answer:
            answer.raise_for_status()
            return (await answer.json())["choices"][0]["message"]["content"]

    return ask


async def compare(url: str, requests: int) -> None:
    """Rounds of each in turn, so that a busy machine is busy for all; the least of each is printed."""
    whole, streamed = HttpReplica(url=url, model="tiny"), HttpReplica(url=url, model="tiny", stream=True)
    async with aiohttp.ClientSession() as session:
        asks: dict[str, Ask] = {
            "plain aiohttp": plain(session, url),
            "a replica": lambda: whole.ask(REQUEST),
            "a replica, streamed (15 events)": lambda: streamed.ask(REQUEST),
        }
        spent: dict[str, list[float]] = {name: [] for name in asks}
        for _ in range(ROUNDS):
            for name, ask in asks.items():
                spent[name].append(await milliseconds(ask, requests))
    await whole.close()
    await streamed.close()
    for name, each in spent.items():
        print(f"{name:32} {min(each):.2f} ms a request (rounds: {', '.join(f'{ms:.2f}' for ms in each)})")


def main() -> None:
    """Starts the engine in a process of its own and compares."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=400, help="a round")
    requests = parser.parse_args().requests
    command = [sys.executable, "-m", "tests.scripted_engine"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as engine:
        try:
            assert engine.stdout is not None
            asyncio.run(compare(engine.stdout.readline().strip(), requests))
        finally:
            engine.kill()


if __name__ == "__main__":
    main()
