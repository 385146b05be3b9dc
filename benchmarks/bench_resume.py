"""How soon a run with very many committed shards goes on with what is left.

    python benchmarks/bench_resume.py [--shards 100000]

Makes an input of so many shards of which all but one have their record, then starts the command as a user would and
times it until the last shard is committed. Beside it: the same command on that one shard alone, which is
what Ray and the imports take.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from shards import commits
from shards import plan as plans
from shards.commits import Record
from shards.finding import find
from shards.pack import tar_of
from shards.store import Store
from tests.corpora import samples
from tests.processes import datacomp

MOST_LINKS = 50_000  # to one file; ext4 stops at 65,000


def shard_name(number: int) -> str:
    """Shards in the order that they are planned in; the last one is left over."""
    return f"{number:07d}"


def make_input(folder: Path, count: int) -> None:
    """So many tars; all hold the same few samples and are one file under many names."""
    folder.mkdir(parents=True)
    (folder / f"{shard_name(0)}.tar").write_bytes(tar_of(samples(8)))
    for number in range(1, count):
        base = folder / f"{shard_name(number - number % MOST_LINKS)}.tar"
        if number % MOST_LINKS:
            os.link(base, folder / f"{shard_name(number)}.tar")
        else:
            base.write_bytes((folder / f"{shard_name(0)}.tar").read_bytes())


def commit_all_but_last(out: Path, count: int) -> None:
    """The first shard's real record, again for every other shard under its own name and seal."""
    store = Store(str(out))
    first = commits.read(store, shard_name(0))
    assert first is not None
    for number in range(1, count - 1):
        record: Record = commits.sealed(replace(first, shard=shard_name(number)))
        (out / commits.name_of(record.shard)).write_bytes(commits.encode(record))


def seconds_to_work(folder: Path, out: Path, last: str) -> float:
    """From the command to the last shard's commit; the run is not waited for any longer."""
    started = time.monotonic()
    going = subprocess.Popen(datacomp(folder, out), stderr=subprocess.DEVNULL)
    while not (out / commits.name_of(last)).exists():
        assert going.poll() is None, "the run ended without the last shard"
        time.sleep(0.05)
    seconds = time.monotonic() - started
    going.terminate()
    going.wait()
    return seconds


def main() -> None:
    """The command line above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, default=100_000)
    count = parser.parse_args().shards
    with tempfile.TemporaryDirectory(prefix="recap-bench-") as name:
        folder, out = Path(name) / "in", Path(name) / "out"
        make_input(Path(name) / "one", 1)
        alone = seconds_to_work(Path(name) / "one", Path(name) / "alone", shard_name(0))
        make_input(folder, count)
        plan_whole(folder, out)
        assert len(find(str(folder))) == count
        commit_all_but_last(out, count)
        resumed = seconds_to_work(folder, out, shard_name(count - 1))
    print(f"{count:,} shards, all but one committed: work done after {resumed:.1f} s; one shard alone {alone:.1f} s")


def plan_whole(folder: Path, out: Path) -> None:
    """Write the plan by starting the command, and stop it once its first shard is committed."""
    going = subprocess.Popen(datacomp(folder, out, "--pace.workers", "1"), stderr=subprocess.DEVNULL)
    while not (out / commits.name_of(shard_name(0))).exists():
        assert going.poll() is None, "the run did not begin"
        time.sleep(0.2)
    going.kill()
    going.wait()
    assert plans.read(Store(str(out))) is not None


if __name__ == "__main__":
    main()
