"""Resident memory of the line over a million tiny samples: it must not grow with what went through.

    python benchmarks/bench_memory.py [--samples 1000000]

The pictures are under the asked resolution, so that the reader, the rows, the ledgers and the commits do all the work.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from pathlib import Path

from captioner.recipe import Pace
from pipelines.arenas import few_arenas
from shards import plan as plans
from shards.pack import Packed, tar_of
from shards.store import Store
from tests.corpora import caption, fake_recipe, picture, planned

SHARD_SAMPLES = 10_000


def resident_mib() -> float:
    """This process's resident memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def make_input(folder: Path, shards: int) -> None:
    """One tar under many names."""
    folder.mkdir()
    tiny = picture(1, 40, 40)
    made = [Packed(key=f"{n:09d}", extension="jpg", media=tiny, caption="alt") for n in range(SHARD_SAMPLES)]
    (folder / "00000.tar").write_bytes(tar_of(made))
    for number in range(1, shards):
        os.link(folder / "00000.tar", folder / f"{number:05d}.tar")


def main() -> None:
    """The command line above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1_000_000)
    shards = parser.parse_args().samples // SHARD_SAMPLES
    few_arenas()  # as every worker does
    with tempfile.TemporaryDirectory(prefix="recap-bench-") as name:
        make_input(Path(name) / "in", shards)
        recipe = fake_recipe()
        plan, store = planned(recipe, Path(name) / "in"), Store(f"{name}/out")
        plans.enter(store, plan)
        started, told = time.monotonic(), []
        for part in range(10):
            wanted = plan.inputs[part * shards // 10 : (part + 1) * shards // 10]
            asyncio.run(caption(recipe, plan, store, wanted, Pace()))
            told.append(resident_mib())
        seconds = time.monotonic() - started
    print(f"{shards * SHARD_SAMPLES:,} samples in {seconds:.0f} s; resident MiB after each tenth:")
    print(" ".join(f"{each:.0f}" for each in told))


if __name__ == "__main__":
    main()
