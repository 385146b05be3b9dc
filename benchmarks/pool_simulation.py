"""The pool against stub replicas on a virtual clock: ratios to the ideal over many seeds, without any noise."""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from dataclasses import dataclass, replace

from captioner.engines.pool import Pool, PoolSettings, PoolStats
from captioner.errors import EngineError
from captioner.types import Caption
from tests import virtualtime
from tests.stub_replicas import (
    Behaviour,
    StubReplica,
    answer_seconds,
    earliest_completion,
    list_schedule,
    requests,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one run came to: seconds from the first ask to the last answer, who was lost, and the pool's books."""

    seconds: float
    lost: int
    stats: PoolStats


async def drive(replicas: list[StubReplica], count: int, seed: int, settings: PoolSettings) -> Run:
    """Ask for all pictures, never holding more of them than the pool wants."""
    loop = asyncio.get_running_loop()
    waiting = iter(requests(count, seed))
    lost = asked = 0
    async with Pool(replicas, settings) as pool:
        started = loop.time()
        everything = loop.create_future()

        def ended(task: asyncio.Task[Caption]) -> None:
            nonlocal lost, asked
            lost += isinstance(task.exception(), EngineError)
            asked -= 1
            more()

        def more() -> None:
            nonlocal asked
            while asked < pool.capacity and (request := next(waiting, None)) is not None:
                asked += 1
                loop.create_task(pool.caption(request)).add_done_callback(ended)
            if not asked and not everything.done():
                everything.set_result(None)

        more()
        await everything
        return Run(seconds=loop.time() - started, lost=lost, stats=pool.stats())


CASES: dict[str, tuple[int, list[Behaviour]]] = {
    "equal": (4000, [Behaviour()] * 4),
    "speeds 1,1,0.5,2": (4000, [Behaviour(speed=speed) for speed in (1, 1, 0.5, 2)]),
    "one dies at 3 s": (1000, [*[Behaviour()] * 3, Behaviour(dies_at=3.0)]),
    "one hangs at 3 s": (4000, [*[Behaviour()] * 3, Behaviour(hangs_at=3.0)]),
    "one hangs at 3 s, 1000": (1000, [*[Behaviour()] * 3, Behaviour(hangs_at=3.0)]),
    "2 % answer 500": (4000, [Behaviour(broken=0.02)] * 4),
    "429 beyond 8": (4000, [Behaviour(most_waiting=8)] * 4),
    "429 beyond 8, retry after 1 s": (4000, [Behaviour(most_waiting=8, retry_after=1.0)] * 4),
}


def simulate(name: str, seed: int) -> tuple[float, float, Run]:
    """Ratio to the ideal list schedule, the same to the one that knows all answer times, and the run."""
    count, behaviours = CASES[name]
    stubs = [StubReplica(f"stub-{number}", replace(each)) for number, each in enumerate(behaviours)]
    run = virtualtime.run(drive(stubs, count, seed, PoolSettings(deadline_seconds=15.0 if "hangs" in name else 60.0)))
    seconds = [answer_seconds(each.media_sha256) for each in requests(count, seed)]
    speeds = [each.speed for each in behaviours]
    return (
        run.seconds / list_schedule(seconds, speeds, 64),
        run.seconds / earliest_completion(seconds, speeds, 64),
        run,
    )


def main() -> None:
    """Prints, by case, the ratios' median, mean and worst over the seeds, and what it cost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--case", default="")
    arguments = parser.parse_args()
    for name in CASES:
        if arguments.case not in name:
            continue
        began = time.process_time()
        rows = [simulate(name, seed) for seed in range(arguments.seeds)]
        cpu = (time.process_time() - began) / sum(run.stats.asks for _, _, run in rows)
        ratios = [ratio for ratio, _, _ in rows]
        stats = [run.stats for _, _, run in rows]
        print(
            f"{name:30} median {statistics.median(ratios):.3f} mean {statistics.mean(ratios):.3f}"
            f" max {max(ratios):.3f}"
            f" | knowing all {statistics.median(each for _, each, _ in rows):.3f}"
            f" | lost {sum(run.lost for _, _, run in rows)} retries {statistics.mean(s.retries for s in stats):.0f}"
            f" hedges {statistics.mean(s.hedges for s in stats):.0f}"
            f" moved {statistics.mean(s.moved for s in stats):.0f}"
            f" twice {max(s.wasted_work for s in stats):.1%} | windows {[r.window for r in stats[0].replicas]}"
            f" | cpu/ask {cpu * 1e6:.0f} us",
            flush=True,
        )


if __name__ == "__main__":
    main()
