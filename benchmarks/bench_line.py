"""The whole line on a local Ray with the fake engine, beside the ideal list schedule of the very same answer times.

    python benchmarks/bench_line.py [--samples 20000] [--slots 256]

Answers take lognormal times (mean 1 s, sigma 0.6). The ideal hands the next sample to whichever slot is free first and
spends no time on anything else. Prints seconds, their ratio, engine use and our CPU per sample.
"""

from __future__ import annotations

import argparse
import hashlib
import heapq
import logging
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from captioner.engines.fake import Fake
from captioner.recipe import Pace, Recipe
from pipelines.actors import Report
from pipelines.recaption import Order, RunState, recaption
from shards.pack import Packed, tar_of
from shards.store import Store
from tests.corpora import fake_recipe, picture, planned

SECONDS, SIGMA = 1.0, 0.6
PICTURES, SIDE = 50, 112  # distinct ones, small: the line is measured, not the decoder; a comment makes each its own


def samples(count: int, first: int) -> Iterator[Packed]:
    """Small pictures, each with a comment of its own."""
    for number in range(first, first + count):
        media = DRAWN[number % PICTURES]
        comment = f"sample {number:08d}".encode()
        media = media[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + media[2:]
        yield Packed(key=f"{number:09d}", extension="jpg", media=media, caption="alt", fields={"url": "x"})


def ideal_seconds(shards: list[list[str]], slots: int) -> float:
    """The list schedule of the fake engine's own answer times."""
    fake = Fake(seconds=SECONDS, sigma=SIGMA)
    free = [0.0] * slots
    for sha256 in (each for shard in shards for each in shard):
        heapq.heappush(free, heapq.heappop(free) + fake.answer_seconds(sha256))
    return max(free)


@dataclass(slots=True)
class Watch:
    """When the first request was in flight, and how the slots were used since."""

    first: float = 0.0
    busy: float = 0.0
    pids: set[int] = field(default_factory=set)
    cpu: dict[int, float] = field(default_factory=dict)
    started: dict[int, float] = field(default_factory=dict)  # CPU seconds that a process had taken when first seen

    def show(self, state: RunState, reports: list[Report]) -> None:
        """Called by the driver about twice a second."""
        busy = sum(report.busy_seconds for report in reports)
        if not self.first and busy:
            self.first = time.monotonic() - busy / sum(report.slots for report in reports if report.busy_seconds)
        self.busy = max(self.busy, busy)
        for pid in (pid for report in reports for pid in report.pids):
            self.cpu[pid] = max(self.cpu.get(pid, 0.0), cpu_seconds(pid))
            self.started.setdefault(pid, self.cpu[pid])
        self.pids |= {report.pids[0] for report in reports}


def cpu_seconds(pid: int) -> float:
    """User and system seconds of a process so far, 0 once it is gone."""
    try:
        fields = (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / 100


def measure(folder: Path, recipe: Recipe, pace: Pace, hashes: list[list[str]]) -> None:
    """One run, and its line of figures."""
    plan = planned(recipe, folder / "in")
    watch = Watch()
    recaption(Order(recipe=recipe, plan=plan, output=str(folder / "out"), pace=pace, address="local"), watch.show)
    ours = time.monotonic() - watch.first
    slots = pace.slots * pace.workers
    ideal, count = ideal_seconds(hashes, slots), sum(map(len, hashes))
    taken = {pid: seconds - watch.started[pid] for pid, seconds in watch.cpu.items()}
    workers = sum(taken[pid] for pid in watch.pids)
    decoders = sum(taken.values()) - workers
    start = sum(watch.started[pid] for pid in watch.pids) / len(watch.pids)
    print(f"{count} samples, {slots} slots: line {ours:.1f} s, ideal {ideal:.1f} s, ratio {ours / ideal:.3f}")
    print(f"engine use {watch.busy / (slots * ours):.1%} (ideal {sum_seconds(hashes) / (slots * ideal):.1%})")
    each = f"workers {1000 * workers / count:.2f} ms, decoders {1000 * decoders / count:.2f} ms"
    print(f"CPU a sample: {each}; before its first, a worker {start:.1f} s")


def sum_seconds(hashes: list[list[str]]) -> float:
    """All answer times together."""
    fake = Fake(seconds=SECONDS, sigma=SIGMA)
    return sum(fake.answer_seconds(each) for shard in hashes for each in shard)


def main() -> None:
    """The command line above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=20_000)
    parser.add_argument("--shard-samples", type=int, default=2_000)
    parser.add_argument("--slots", type=int, default=256, help="in all")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    with tempfile.TemporaryDirectory(prefix="recap-bench-") as name:
        folder, hashes = Path(name), []
        for number, first in enumerate(range(0, given.samples, given.shard_samples)):
            shard = list(samples(given.shard_samples, first))
            Store(str(folder / "in")).create(f"{number:05d}.tar", tar_of(shard))
            hashes.append([hashlib.sha256(each.media).hexdigest() for each in shard])
        recipe = fake_recipe(seconds=SECONDS, sigma=SIGMA)
        recipe = replace(recipe, screens=tuple(each for each in recipe.screens if each.name != "resolution"))
        pace = Pace(workers=given.workers, slots=given.slots // given.workers)
        measure(folder, recipe, pace, hashes)


DRAWN = [picture(number, SIDE, SIDE) for number in range(PICTURES)]

if __name__ == "__main__":
    main()
