"""The service beside its engine: CPU and time that it adds, three times its capacity, 1,000 stalled connections, a run.

    python -m benchmarks.bench_service [--soak 600] [--only overhead|overload|stalls|batch]

The engine is a stub of 64 slots in another process, the client is a third one. Each figure and what stands beside it
are of one run. `batch` is a service and a run of DataComp on a local Ray at the same two stubs of 8 slots.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.service_client import commented, picture
from captioner.engines.replica import HttpReplica
from captioner.media.decoders import DecoderPool
from captioner.presets import preset
from captioner.recipe import Limits
from captioner.request import request_for
from captioner.types import Sample
from shards.pack import Packed, tar_of
from shards.store import Store

ROOT = Path(__file__).parents[1]
WARM_SECONDS = 6.0
FULL_SECONDS = 25.0  # before an overload is measured
SMALL = 288  # px of pictures where load is measured: decoding large ones would be what is full, not the engine
# Of the stub that is overloaded. Its answer times are drawn: equal ones come in step, sixteen at once, and a step just
# before or behind the end of a measurement was 7 % of it.
SPEED, PLACES = 0.5, 16
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a client saw."""

    seconds: float
    found: list[tuple[int, float, float]]

    def times(self, status: int) -> list[float]:
        return sorted(each for seen, each, _ in self.found if seen == status)

    @property
    def goodput(self) -> float:
        """Captions a second, once the engine is full and before the client ends."""
        ended = [each for status, _, each in self.found if status == 200 and WARM_SECONDS < each <= self.seconds]
        return len(ended) / (self.seconds - WARM_SECONDS)


def percentile(times: list[float], share: float) -> float:
    """Of sorted seconds; nan of none."""
    return times[min(len(times) - 1, int(len(times) * share))] if times else float("nan")


@contextmanager
def stub(speed: float, **more: Any) -> Iterator[str]:
    """A stub engine's URL."""
    command = [sys.executable, str(ROOT / "benchmarks/stub_server.py"), json.dumps({"speed": speed, **more})]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        process.kill()


@contextmanager
def service(engine: str, *words: str) -> Iterator[tuple[str, int]]:
    """A service's URL and process id."""
    command = [
        sys.executable,
        "-m",
        "pipelines",
        "serve",
        "--engine",
        "openai",
        "--model",
        "stub",
        "--preset",
        "qwen2-vl",
    ]
    command += ["--endpoints", engine, "--port", "0", "--metrics-port", "-1", "--cache-entries", "0", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split(" at ")[1].split()[0]
        while not _ready(url):
            time.sleep(0.1)
        yield url, process.pid
        process.terminate()


def _ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=2) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def client(url: str, **plan: Any) -> Found:
    """A client's run, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.service_client", url, json.dumps(plan)]
    said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    return Found(seconds=plan["seconds"], **json.loads(said))


def cpu_seconds(pid: int) -> float:
    """Of a process and its children, those that ended included."""
    total = 0.0
    for each in (pid, *_children(pid)):
        fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        total += sum(int(field) for field in fields[11:15]) / TICKS
    return total


def _children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def resident_mib(pid: int) -> float:
    """Of the service's own process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 2**20


async def direct(engine: str, asks: int, at_once: int) -> tuple[list[float], float]:
    """(seconds of asks of the engine itself, with a picture that was decoded before, CPU of one)."""
    async with DecoderPool(1, Limits()) as decoder:
        asking = preset("qwen2-vl")
        media = picture()
        decoded = await decoder.decode(media, asking.budget)
    sample = Sample(key="a", kind="image", media=media, meta={}, source_shard="")
    request, replica = request_for(sample, decoded, asking), HttpReplica(url=engine, model="stub")
    await replica.prove()
    times: list[float] = []
    began = time.process_time()

    async def some(count: int) -> None:
        for _ in range(count):
            asked = time.monotonic()
            await replica.ask(request)
            times.append(time.monotonic() - asked)

    await asyncio.gather(*(some(asks // at_once) for _ in range(at_once)))
    await replica.close()
    return sorted(times), (time.process_time() - began) / len(times)


def overhead() -> None:
    """What stands between a client and the engine: CPU a request and time."""
    with stub(speed=8.0) as engine, service(engine) as (url, pid):
        client(url, at_once=4, seconds=2, salt="warm")
        before = cpu_seconds(pid)
        ours = client(url, at_once=1, seconds=20)
        spent = (cpu_seconds(pid) - before) / len(ours.found)
        times, beside = asyncio.run(direct(engine, 60, 1))
    decode = asyncio.run(_decode_seconds())
    print(f"a picture of {len(picture()) / 1000:.0f} KB, one at a time: {len(ours.times(200))} answers")
    print(f"  CPU a request, decoder included: {spent * 1000:.1f} ms; decoding alone {decode * 1000:.1f} ms;")
    print(f"  asking the engine directly, picture decoded before: {beside * 1000:.1f} ms")
    added = statistics.median(ours.times(200)) - statistics.median(times)
    print(f"  median {statistics.median(ours.times(200)) * 1000:.0f} ms, directly {statistics.median(times) * 1000:.0f}"
          f" ms: {added * 1000:.0f} ms added, decoding included")  # fmt: skip


async def _decode_seconds() -> float:
    media, budget = picture(), preset("qwen2-vl").budget
    async with DecoderPool(1, Limits()) as decoder:
        await decoder.decode(media, budget)
        before = cpu_seconds(os.getpid())
        for _ in range(40):
            await decoder.decode(media, budget)
        return (cpu_seconds(os.getpid()) - before) / 40


def overload(seconds: float, soak: float) -> None:
    """Three times what the engine can do: goodput beside its peak, and how quick refusals are."""
    places = ("--queue", "24", "--pace.slots", str(PLACES))
    with stub(speed=SPEED, slots=PLACES, drawn=True) as engine, service(engine, *places) as (url, pid):
        # The pool finds the engine's window meanwhile: a peak measured before that is none, nor is three times it.
        client(url, at_once=36, seconds=FULL_SECONDS, side=SMALL, salt="warm")
        peak = client(url, at_once=36, seconds=2 * seconds, side=SMALL, salt="peak")
        rate, before = 3 * peak.goodput, resident_mib(pid)
        loaded = client(url, rate=rate, seconds=seconds, side=SMALL, salt="triple")
        refused = loaded.times(503)
        print(f"the engine can do {SPEED * PLACES:.1f}/s, the peak is {peak.goodput:.2f}/s; at 3x ({rate:.0f}/s) "
              f"{loaded.goodput:.2f}/s: {loaded.goodput / peak.goodput:.0%}")  # fmt: skip
        print(f"  {len(refused)} refused, p50 {percentile(refused, 0.5) * 1000:.1f} ms, "
              f"p99 {percentile(refused, 0.99) * 1000:.1f} ms; others {_others(loaded)}")  # fmt: skip
        print(f"  resident {before:.0f} MiB before, {resident_mib(pid):.0f} after")
        minutes: list[float] = []
        for step in range(1, round(soak / 60) + 1):
            again = client(url, rate=rate, seconds=60, side=SMALL, salt=f"soak{step}")
            minutes.append(again.goodput / peak.goodput)
            print(f"  minute {step}: {again.goodput:.2f}/s, refusals p99 "
                  f"{percentile(again.times(503), 0.99) * 1000:.1f} ms, others {_others(again)}, "
                  f"resident {resident_mib(pid):.0f} MiB", flush=True)  # fmt: skip
        if minutes:
            print(f"  {len(minutes)} minutes: {statistics.mean(minutes):.0%} of the peak, least {min(minutes):.0%}")


def _others(found: Found) -> dict[int, int]:
    statuses = [status for status, *_ in found.found if status not in (200, 503)]
    return {status: statuses.count(status) for status in set(statuses)}


def stalls(seconds: float) -> None:
    """1,000 connections that stall, and what good requests notice."""
    with stub(speed=4.0) as engine, service(engine) as (url, _):
        client(url, at_once=2, seconds=2, salt="warm")
        alone = client(url, rate=8, seconds=seconds, side=SMALL, salt="alone")
        beside = client(url, rate=8, seconds=min(9.0, seconds), stalled=1000, side=SMALL, salt="stalled")
        one, two = (percentile(each.times(200), 0.99) for each in (alone, beside))
        print(f"8/s: p99 {one * 1000:.0f} ms; with 1,000 stalled connections {two * 1000:.0f} ms: {two / one:.2f}x")


BATCH_SPEED, BATCH_SLOTS = 1.5, 8  # two such stubs answer 24 requests a second, and not our CPU is what is full
BATCH_SHARD = 250
INTERACTIVE = 0.1  # of what the stubs can do
# Of answers of 0.7 s: the windows of pools find their size in some 20 s.
BATCH_WARM_SECONDS = 25.0


@contextmanager
def batch(folder: Path, engines: str, samples: int) -> Iterator[None]:
    """A run of DataComp on a local Ray, over so many pictures, since it has answers; stopped in good order."""
    media = picture(SMALL)
    for first in range(0, samples, BATCH_SHARD):
        packed = [
            Packed(key=f"{number:09d}", extension="jpg", media=commented(media, f"{number}"), caption="alt", fields={})
            for number in range(first, first + BATCH_SHARD)
        ]
        Store(str(folder / "in")).create(f"{first:09d}.tar", tar_of(packed))
    command = [sys.executable, str(ROOT / "pipelines/recap_datacomp.py"), "--address", "local", "--pace.workers", "1"]
    command += ["--input", str(folder / "in"), "--output", str(folder / "out"), "--without", "resolution"]
    command += ["--engine", "openai", "--model", "stub", "--preset", "qwen2-vl", "--endpoints", engines]
    before = answered(engines)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT) as process:
        while answered(engines) <= before + 2 * BATCH_SLOTS:  # the proofs of replicas are answers too
            assert process.poll() is None, "the run ended before it began"
            time.sleep(0.2)
        yield
        assert process.poll() is None, "the run ended before it was measured"
        process.terminate()


def answered(engines: str) -> int:
    """Answers that the stubs gave to requests without a number: the run's."""
    total = 0
    for each in engines.split(","):
        with urllib.request.urlopen(f"{each}/answered", timeout=5) as response:
            total += json.load(response)["answered"]
    return total


def beside_a_run(seconds: float) -> None:
    """A service and a run at the same two stubs: what each has alone, and together."""
    capacity = 2 * BATCH_SPEED * BATCH_SLOTS
    plan: dict[str, Any] = {"rate": INTERACTIVE * capacity, "seconds": seconds, "side": SMALL, "numbered": True}
    settings = {"speed": BATCH_SPEED, "slots": BATCH_SLOTS, "drawn": True}
    with tempfile.TemporaryDirectory(prefix="recap-bench-") as name, stub(**settings) as one, stub(**settings) as two:
        engines = f"{one},{two}"
        with service(engines) as (url, _):
            client(url, at_once=16, seconds=5, side=SMALL, salt="warm", numbered=True)
            alone = client(url, salt="alone", **plan)
            samples = int(capacity * (BATCH_WARM_SECONDS + 2.5 * seconds) * 1.2) // BATCH_SHARD * BATCH_SHARD
            with batch(Path(name), engines, samples):
                time.sleep(BATCH_WARM_SECONDS)
                first = _rate(engines, lambda: time.sleep(seconds / 2))
                found: list[Found] = []
                beside = _rate(engines, lambda: found.append(client(url, salt="together", **plan)))
                last = _rate(engines, lambda: time.sleep(seconds / 2))
    one_p99, two_p99 = (percentile(each.times(200), 0.99) for each in (alone, found[0]))
    print(f"interactive, {plan['rate']:.1f}/s of {capacity:.0f}: {len(found[0].times(200))} answers, p50 "
          f"{percentile(alone.times(200), 0.5):.2f} s alone, {percentile(found[0].times(200), 0.5):.2f} s with a run; "
          f"others {_others(alone)}, {_others(found[0])}")  # fmt: skip
    print(f"  p99 {one_p99:.2f} s alone, {two_p99:.2f} s with a run: {two_p99 / one_p99:.2f}x")
    undisturbed = (first + last) / 2  # before and after, so that a machine or a window that grows does not flatter
    print(f"batch: {first:.1f} and {last:.1f} samples/s alone before and after, {undisturbed / capacity:.0%} of what "
          f"the stubs can do; {beside:.1f} with the service between: {beside / undisturbed:.0%}")  # fmt: skip


def _rate(engines: str, meanwhile: Callable[[], None]) -> float:
    """Answers to the run a second, while this goes on."""
    before, began = answered(engines), time.monotonic()
    meanwhile()
    return (answered(engines) - before) / (time.monotonic() - began)


def main() -> None:
    """All of it, in some seven minutes; --soak SECONDS more at three times the capacity."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--soak", type=float, default=0.0)
    parser.add_argument("--only", default="")
    chosen = parser.parse_args()
    parts: dict[str, Callable[[], None]] = {
        "overhead": overhead,
        "overload": lambda: overload(60.0, chosen.soak),
        "stalls": lambda: stalls(9.0),
        "batch": lambda: beside_a_run(20.0),
    }
    for name, part in parts.items():
        if chosen.only in ("", name):
            part()


if __name__ == "__main__":
    main()
