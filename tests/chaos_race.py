"""Sixteen processes commit every one of forty shards at the same moment: one winner each, and each knows the truth.

python -m tests.chaos_race OUT NOTES WRITERS KEYS      # the writers; each notes its verdicts in NOTES/<attempt>
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

from shards import commits
from shards.commits import DataFile, Record, sha256_of
from shards.store import Store
from tests.chaos_page import OTHERWISE, Result
from tests.chaos_workers import SHARE, s3_here
from tests.faultproxy import FaultProxy, Faults
from tests.processes import ROOT, descendants, kill

RACE_SECONDS = 240.0


def record(store: Store, shard: str, attempt: str) -> Record:
    """An attempt's record, whose one data file is in place first, as the protocol has it."""
    name, data = f"data/{shard}-{attempt}.tar", f"{shard} {attempt}\n".encode() * 100
    with store.building(name) as building:
        building.file.write(data)
        building.publish()
    return Record(
        plan="race", shard=shard, attempt=attempt, epoch=1, input={"account": {}, "bytes_read": 0}, reason=None,
        flags=(), counts={}, reasons={}, spent={}, first_key=None, last_key=None, digest="0" * 64,
        files=(DataFile(name=name, bytes=len(data), sha256=sha256_of(data)),),
    )  # fmt: skip


def write(out: str, notes: Path, attempt: str, keys: list[str], gate: tuple[int, int]) -> None:
    """One writer: publish, commit, and where another was first drop one's own file; then note every verdict.

    It begins when everybody is there: it closes its end of the gate, and goes when nobody holds that end any more.
    """
    store, said = Store(out), {}
    os.close(gate[1])
    os.read(gate[0], 1)
    for key in keys:
        began = time.monotonic()
        mine = record(store, key, attempt)
        verdict = commits.commit(store, mine)
        said[key] = (verdict, began, time.monotonic())
        if verdict == "lost":
            store.delete([file.name for file in mine.files])
    (notes / attempt).write_text(json.dumps(said))


def main(out: str, notes: Path, writers: int, keys: int) -> int:
    """Fork the writers and wait for them; how many broke."""
    gate, pids = os.pipe(), []
    for number in range(writers):
        attempt = f"{number:032x}"
        order = [f"{key:05d}" for key in range(keys)]
        if number % 2:  # half of them all on the same key at once, half all over the place
            random.Random(number).shuffle(order)
        if (pid := os.fork()) == 0:
            write(out, notes, attempt, order, gate)
            os._exit(0)
        pids.append(pid)
    os.close(gate[1])
    return sum(os.waitpid(pid, 0)[1] != 0 for pid in pids)


def contested(spans: list[list[float]]) -> bool:
    """Whether any two spans of time, each a beginning and an end, overlap."""
    ordered = sorted(spans)
    return any(later[0] < earlier[1] for earlier, later in pairwise(ordered))


def judged(out: str, notes: Path, writers: int, keys: int, result: Result) -> None:
    """Book every key that has not one record, of one writer who knows it, with its file whole; and what is over."""
    store, said = Store(out), {each.name: json.loads(each.read_text()) for each in notes.iterdir()}
    if len(said) != writers:
        result.book(OTHERWISE, f"{writers - len(said)} of {writers} writers did not come to an end")
    named = set()
    for key in (f"{number:05d}" for number in range(keys)):
        there = commits.read(store, key)
        if there is None:
            result.book("lost", f"{key} has no record")
            continue
        [file] = there.files
        named.add(file.name)
        winners = [attempt for attempt, verdicts in said.items() if verdicts[key][0] == "committed"]
        if winners != [there.attempt]:
            result.book("doubled", f"{key} is the record of {there.attempt}; {winners} think that it is theirs")
        if sha256_of(store.read(file.name)) != file.sha256:
            result.book("torn", f"{file.name} is not what its record says")
    if not any(contested([verdicts[key][1:] for verdicts in said.values()]) for key in next(iter(said.values()), {})):
        result.book(OTHERWISE, "no two writers were at one key at one time: that was no race")
    over = set(store.names("data/")) - named
    result.book_all("unaccounted", [f"{name}, which no record names" for name in sorted(over)[:5]], len(over))
    result.rounds += keys
    result.samples += sum(map(len, said.values()))


def race(
    result: Result, folder: Path, out: str, writers: int, keys: int, environment: dict[str, str] | None = None
) -> None:
    """The race in processes of their own, and what is wrong with what it leaves."""
    environment = os.environ | (environment or {})
    notes = folder / "notes"
    notes.mkdir()
    command = [sys.executable, "-m", "tests.chaos_race", out, str(notes), str(writers), str(keys)]
    with (
        open(folder / "errors", "wb") as errors,
        subprocess.Popen(command, cwd=ROOT, stderr=errors, env=environment) as running,
    ):
        try:
            running.wait(timeout=RACE_SECONDS)
        except subprocess.TimeoutExpired:
            result.book(OTHERWISE, f"the race was not over after {RACE_SECONDS:.0f} s")
        finally:
            for pid in (*descendants(running.pid), running.pid):
                if running.poll() is None:
                    kill(pid)
    if running.returncode:
        result.book(OTHERWISE, f"{running.returncode} writers broke: {(folder / 'errors').read_text()[-300:]}")
    judged(out, notes, writers, keys, result)


def race_on_disk(result: Result, folder: Path, writers: int, keys: int) -> None:
    """The race on a local disk."""
    race(result, folder, str(folder / "out"), writers, keys)


def race_on_s3(result: Result, folder: Path, writers: int, keys: int, seed: int) -> None:
    """The race on S3, with answers lost and requests refused on the way; the judge goes past the proxy."""
    with s3_here(folder) as bucket:
        race_in_bucket(result, folder, bucket, writers, keys, seed)


def race_in_bucket(result: Result, folder: Path, bucket: str, writers: int, keys: int, seed: int) -> None:
    """The race through a bad network; the judge goes past it."""
    with FaultProxy(os.environ["AWS_ENDPOINT_URL"], Faults(share=SHARE), seed) as proxy:
        race(result, folder, f"{bucket}/race", writers, keys, {"AWS_ENDPOINT_URL": proxy.url})
    result.faults = proxy.injected
    result.requests = proxy.injected.total() + proxy.passed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])))
