"""How fast `recap verify` proves a corpus, on one core: `python -m benchmarks.bench_verify`."""

from __future__ import annotations

import argparse
import hashlib
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from shards.pack import Packed, pack
from shards.store import Store
from shards.verify import Verified, verify
from tests.corpora import fake_recipe, picture, planned, run_here

PICTURE_BYTES = 100_000
REPEATS = 3


def corpus(folder: Path, megabytes: int, shards: int) -> Store:
    """A committed corpus over pictures of about 100 KB: small sound JPEGs, made large by noise behind their end."""
    count = megabytes * 10**6 // PICTURE_BYTES // shards
    small = picture(1)
    for number in range(shards):
        samples = [
            Packed(
                key=f"{number:03d}{at:06d}",
                extension="jpg",
                media=small + os.urandom(PICTURE_BYTES - len(small)),
                caption=f"alt text {at}",
                fields={"url": f"https://pictures.example/{at}.jpg", "uid": f"{at:032x}"},
            )
            for at in range(count)
        ]
        pack(Store(str(folder / "in" / str(number))), samples, count)
    recipe = fake_recipe()
    run_here(recipe, planned(recipe, folder / "in"), folder / "out")
    return Store(str(folder / "out"))


def best(work: Callable[[], Verified]) -> tuple[float, Verified]:
    """CPU seconds of the quickest of a few, and its verdict."""
    times = []
    for _ in range(REPEATS):
        started = time.process_time()
        verdict = work()
        times.append(time.process_time() - started)
    assert verdict.exit_code == 0 and not verdict.notes, verdict
    return min(times), verdict


def sha256_rate() -> float:
    """MB/s of sha256 alone, which no verify can do without."""
    data = os.urandom(1 << 20)
    started = time.process_time()
    for _ in range(200):
        hashlib.sha256(data)
    return 200 * len(data) / 1e6 / (time.process_time() - started)


def main() -> None:
    """The command line above."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=300)
    parser.add_argument("--shards", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="recap-verify-") as name:
        store = corpus(Path(name), given.megabytes, given.shards)
        for title, read_input in (("corpus and input", True), ("corpus alone (--no-input)", False)):
            seconds, verdict = best(lambda read_input=read_input: verify(store, read_input=read_input))  # type: ignore[misc]
            megabytes = (verdict.checked["bytes"] + verdict.checked.get("input bytes", 0)) / 1e6
            rows = verdict.checked["rows"]
            print(f"{title}: {megabytes:.0f} MB, {rows} samples, {megabytes / seconds:.0f} MB/s of one core")
    print(f"sha256 alone: {sha256_rate():.0f} MB/s")


if __name__ == "__main__":
    main()
