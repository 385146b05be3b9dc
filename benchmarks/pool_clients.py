"""Four ways to ask several served models for captions: our pool, and what a user would write or take instead.

    python benchmarks/pool_clients.py pool|in-turn|least-loaded|openai COUNT PORT [PORT …]

Prints one line of JSON: seconds to the last answer from the first ask and from the first answer, answers lost, CPU
seconds, peak MiB.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
import resource
import sys
import time
from collections.abc import Awaitable, Callable
from itertools import cycle

import aiohttp

from captioner.engines.pool import Pool, PoolSettings
from captioner.errors import EngineBroke, EngineBusy, EngineError, EngineUnavailable
from captioner.types import Caption, CaptionRequest, Picture, Sampling

PICTURE_BYTES = 120_000
AT_ONCE = 256
DEADLINE_SECONDS = 15.0
PICTURE = random.Random(0).randbytes(PICTURE_BYTES)  # as long as a JPEG and as hard to shrink

Ask = Callable[[int], Awaitable[object]]
Asked = tuple[int, float]  # answers lost, and when the first one came


def prompt(number: int) -> str:
    """What the stub servers recognise a picture by."""
    return f"Describe picture {number} in plain sentences."


class HttpReplica:
    """The least that speaks to a served model: no checks of identity or of what came."""

    def __init__(self, session: aiohttp.ClientSession, port: int) -> None:
        self.name = f"http://127.0.0.1:{port}"
        self._session = session

    async def ask(self, request: CaptionRequest) -> Caption:
        """One answer."""
        try:
            async with self._session.post(
                f"{self.name}/v1/chat/completions", data=body(request), headers={"Content-Type": "application/json"}
            ) as response:
                if response.status == 429:
                    raise EngineBusy("full")
                if response.status != 200:
                    raise EngineBroke(f"HTTP {response.status}")
                answer = json.loads(await response.read())
        except (aiohttp.ClientError, OSError) as error:
            raise EngineUnavailable(type(error).__name__) from error
        choice, usage = answer["choices"][0], answer["usage"]
        return Caption(
            text=choice["message"]["content"],
            finish_reason=choice["finish_reason"],
            prompt_tokens=usage["prompt_tokens"],
            completion_tokens=usage["completion_tokens"],
        )

    async def prove(self) -> None:
        """Whether it answers at all."""
        try:
            async with self._session.get(f"{self.name}/v1/models") as response:
                await response.read()
        except (aiohttp.ClientError, OSError) as error:
            raise EngineUnavailable(type(error).__name__) from error

    async def close(self) -> None:
        """The session is the caller's."""


def body(request: CaptionRequest) -> bytes:
    """The chat request, its picture spliced in: JSON has nothing to escape in base64."""
    text = json.dumps(request.prompt).encode()
    head = b'{"model":"stub","max_tokens":300,"temperature":0.0,"messages":[{"role":"user","content":['
    words = b'{"type":"text","text":'
    picture = base64.b64encode(request.images[0].jpeg)
    url = b'},{"type":"image_url","image_url":{"url":"data:image/jpeg;base64,'
    return b"".join((head, words, text, url, picture, b'"}}]}]}'))


async def through_pool(ports: list[int], count: int) -> Asked:
    """Our pool, given as many requests as it asks for."""
    picture = Picture(jpeg=PICTURE, width=1024, height=768)
    sampling = Sampling(max_tokens=300)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None)) as session:
        replicas = [HttpReplica(session, port) for port in ports]
        async with Pool(replicas, PoolSettings(deadline_seconds=DEADLINE_SECONDS)) as pool:

            async def ask(number: int) -> object:
                request = CaptionRequest(
                    images=(picture,), prompt=prompt(number), sampling=sampling, media_sha256=f"{number:064x}"
                )
                try:
                    return await pool.caption(request)
                except EngineError:
                    return None

            asked = await ask_all(ask, count, lambda: pool.capacity)
            print(pool.stats(), file=sys.stderr)
            return asked


async def through_script(ports: list[int], count: int, *, least_loaded: bool) -> Asked:
    """What one writes in a quarter of an hour: aiohttp, a semaphore, each replica in turn or the least loaded one."""
    gate, turns, out = asyncio.Semaphore(AT_ONCE), cycle(ports), dict.fromkeys(ports, 0)
    timeout = aiohttp.ClientTimeout(total=DEADLINE_SECONDS)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:

        async def ask(number: int) -> object:
            async with gate:
                port = min(out, key=lambda each: out[each]) if least_loaded else next(turns)
                out[port] += 1
                url = f"http://127.0.0.1:{port}/v1/chat/completions"
                try:
                    async with session.post(url, json=chat(number)) as response:
                        response.raise_for_status()
                        return (await response.json())["choices"][0]["message"]["content"]
                except (aiohttp.ClientError, TimeoutError):
                    return None
                finally:
                    out[port] -= 1

        return await ask_all(ask, count, lambda: AT_ONCE)


async def through_openai(ports: list[int], count: int) -> Asked:
    """The openai client with its own retries, one for each replica, in turn."""
    import openai

    clients = [
        openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", timeout=DEADLINE_SECONDS)
        for port in ports
    ]
    turns = cycle(clients)

    async def ask(number: int) -> object:
        try:
            answer = await next(turns).chat.completions.create(**chat(number))
        except openai.OpenAIError:
            return None
        return answer.choices[0].message.content

    return await ask_all(ask, count, lambda: AT_ONCE)


def chat(number: int) -> dict[str, object]:
    """The same request as a dict."""
    url = "data:image/jpeg;base64," + base64.b64encode(PICTURE).decode()
    content = [{"type": "text", "text": prompt(number)}, {"type": "image_url", "image_url": {"url": url}}]
    return {
        "model": "stub",
        "max_tokens": 300,
        "temperature": 0.0,
        "messages": [{"role": "user", "content": content}],
    }


async def ask_all(ask: Ask, count: int, at_once: Callable[[], int]) -> Asked:
    """Ask for pictures 0 to count - 1, so many at once; those that came back as None are lost."""
    numbers = iter(range(count))
    everything = asyncio.get_running_loop().create_future()
    running: set[asyncio.Task[object]] = set()
    lost, first = 0, 0.0

    def more() -> None:
        while len(running) < at_once() and (number := next(numbers, None)) is not None:
            task = asyncio.ensure_future(ask(number))
            running.add(task)
            task.add_done_callback(ended)
        if not running and not everything.done():
            everything.set_result(None)

    def ended(task: asyncio.Task[object]) -> None:
        nonlocal lost, first
        first = first or time.monotonic()
        running.discard(task)
        lost += task.result() is None
        more()

    more()
    await everything
    return lost, first


CLIENTS: dict[str, Callable[[list[int], int], Awaitable[Asked]]] = {
    "pool": through_pool,
    "in-turn": lambda ports, count: through_script(ports, count, least_loaded=False),
    "least-loaded": lambda ports, count: through_script(ports, count, least_loaded=True),
    "openai": through_openai,
}


async def main(name: str, count: int, ports: list[int]) -> None:
    """Run one client and print what it took."""
    started, cpu = time.monotonic(), time.process_time()
    lost, first = await CLIENTS[name](ports, count)
    ended = time.monotonic()
    took = {
        "seconds": ended - started,
        "from_first_answer": ended - first,
        "lost": lost,
        "cpu": time.process_time() - cpu,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(json.dumps(took), flush=True)
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), [int(port) for port in sys.argv[3:]]))
