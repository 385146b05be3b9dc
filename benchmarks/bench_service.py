"""The service beside its engine: CPU and time that it adds, three times its capacity, and 1,000 stalled connections.

    python -m benchmarks.bench_service [--soak 600]

The engine is a stub of 64 slots in another process, the client is a third one. Each figure and what stands beside it
are of one run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.service_client import picture
from captioner.engines.replica import HttpReplica
from captioner.media.decoders import DecoderPool
from captioner.presets import preset
from captioner.recipe import Limits
from captioner.request import request_for
from captioner.types import Sample

ROOT = Path(__file__).parents[1]
WARM_SECONDS = 6.0
SMALL = 288  # px of pictures where load is measured: decoding large ones would be what is full, not the engine
SPEED = 0.35  # of the stub that is overloaded: its 16 slots give some six answers a second
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
def stub(speed: float) -> Iterator[str]:
    """A stub engine's URL."""
    command = [sys.executable, str(ROOT / "benchmarks/stub_server.py"), json.dumps({"speed": speed})]
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
    with stub(speed=SPEED) as engine, service(engine, "--queue", "24", "--pace.slots", "16") as (url, pid):
        client(url, at_once=16, seconds=1, salt="warm")
        peak = client(url, at_once=36, seconds=seconds, side=SMALL, salt="peak")
        before = resident_mib(pid)
        loaded = client(url, rate=3 * peak.goodput, seconds=seconds, side=SMALL, salt="triple")
        refused = loaded.times(503)
        print(f"peak {peak.goodput:.1f}/s; at 3x ({3 * peak.goodput:.0f}/s) {loaded.goodput:.1f}/s: "
              f"{loaded.goodput / peak.goodput:.0%}")  # fmt: skip
        print(f"  {len(refused)} refused, p50 {percentile(refused, 0.5) * 1000:.1f} ms, "
              f"p99 {percentile(refused, 0.99) * 1000:.1f} ms; others {_others(loaded)}")  # fmt: skip
        print(f"  resident {before:.0f} MiB before, {resident_mib(pid):.0f} after")
        end, step = time.monotonic() + soak, 0
        while time.monotonic() < end:
            step += 1
            again = client(url, rate=3 * peak.goodput, seconds=min(60, soak), side=SMALL, salt=f"soak{step}")
            print(f"  soak {step}: {again.goodput:.1f}/s, resident {resident_mib(pid):.0f} MiB", flush=True)


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


def main() -> None:
    """All of it, in some two minutes; --soak SECONDS more at three times the capacity."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--soak", type=float, default=0.0)
    parser.add_argument("--only", default="")
    chosen = parser.parse_args()
    parts = {"overhead": overhead, "overload": lambda: overload(26.0, chosen.soak), "stalls": lambda: stalls(9.0)}
    for name, part in parts.items():
        if chosen.only in ("", name):
            part()


if __name__ == "__main__":
    main()
