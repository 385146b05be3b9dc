"""A service and a batch run at the same replicas: neither starves, and the service follows those that a run keeps."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from pathlib import Path

from captioner.engines.pool import Pool
from captioner.recipe import canonical
from tests.scripted_engine import ScriptedEngine
from tests.serving.running import half_a_run
from tests.serving.served import jpeg, served
from tests.stub_replicas import Behaviour, StubReplica, requests
from tests.virtualtime import run

SLOTS, WARM, SECONDS = 16, 40.0, 140.0  # the pool knows its windows after some 30 s of answers of 1 s


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """batch: answers a second; p99: seconds of interactive ones."""

    batch: float
    p99: float


async def _together(batch: bool, share: float) -> Seen:
    """Two replicas; a worker's pool keeps them full, and the service's own pool asks them for a share of that."""
    loop = asyncio.get_running_loop()
    replicas = [StubReplica(f"r{number}", Behaviour(slots=SLOTS)) for number in range(2)]
    done: list[float] = []
    seconds: list[float] = []

    async def fill(pool: Pool) -> None:
        waiting, inside = iter(requests(20_000, 1)), set()
        while loop.time() < SECONDS:
            while len(inside) < pool.capacity:
                inside.add(ask := asyncio.create_task(pool.caption(next(waiting))))
                ask.add_done_callback(lambda ask: (inside.discard(ask), done.append(loop.time())))
            await asyncio.sleep(0.05)
        for ask in inside:
            ask.cancel()

    async def one(pool: Pool, request: object) -> None:
        began = loop.time()
        await pool.caption(request, "interactive")  # type: ignore[arg-type]
        if began > WARM:
            seconds.append(loop.time() - began)

    async def callers(pool: Pool) -> None:
        dice, asks = random.Random(5), []
        for request in requests(20_000, 2):
            await asyncio.sleep(dice.expovariate(share * 2 * SLOTS) if share else SECONDS)
            if loop.time() > SECONDS:
                break
            asks.append(asyncio.create_task(one(pool, request)))
        await asyncio.gather(*asks)

    async with Pool(replicas) as worker, Pool(replicas) as service:
        await asyncio.gather(callers(service), *([fill(worker)] if batch else []))
    seconds.sort()
    p99 = seconds[int(len(seconds) * 0.99)] if seconds else 0.0
    return Seen(batch=sum(WARM < each < SECONDS for each in done) / (SECONDS - WARM), p99=p99)


def test_a_run_and_a_service_at_the_same_replicas_leave_each_other_their_share() -> None:
    alone = run(_together(batch=False, share=0.1))
    undisturbed = run(_together(batch=True, share=0.0))
    both = run(_together(batch=True, share=0.1))
    assert both.p99 <= 1.5 * alone.p99, (both, alone)
    assert both.batch >= 0.85 * undisturbed.batch, (both, undisturbed)


def test_a_service_asks_the_engines_that_a_run_keeps_and_follows_them(tmp_path: Path) -> None:
    store = half_a_run(tmp_path, shards=0)

    def told(engine: ScriptedEngine, number: int) -> None:
        """What a run's driver leaves twice a minute."""
        host = {"name": "recap-engine-0", "state": "serving", "url": engine.url, "last_error": ""}
        seen = canonical({"time": number, "hosts": [host], "replicas": []})
        store.create(f"journal/~engines-{number:020d}/000001.json", seen)

    words = ("--engine", "vllm", "--model", "tiny", "--preset", "qwen2-vl", "--metrics-port", "-1")

    async def scene() -> None:
        async with ScriptedEngine() as first, ScriptedEngine() as second:
            told(first, 1)
            async with served(*words, "--run", store.url) as there:
                assert (await there.upload(jpeg(1))).status == 200 and len(first.asked) == 1
                told(second, 2)
                async with asyncio.timeout(15):
                    while not second.asked:
                        # 503 while the first has left and the second is still being proved.
                        assert (await there.upload(jpeg(), Cache_Control="no-cache")).status in (200, 503)
                        await asyncio.sleep(0.1)
                assert (await there.upload(jpeg(), Cache_Control="no-cache")).status == 200

    asyncio.run(scene())
