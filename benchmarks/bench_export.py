"""How fast a corpus goes out as EVEv2's files and as tars, beside a script: `python -m benchmarks.bench_export`.

The script reads the corpus's tars with webdataset, writes each picture with open().write() and the list with json.dump:
nothing is compared with what was captioned, nothing outlives a power cut, and what is killed begins anew.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import webdataset

from benchmarks.bench_verify import corpus
from shards.export import Order, export
from shards.store import Store

REPEATS = 3


def by_script(store: Store, to: Path) -> None:
    """The quarter of an hour's work."""
    assert store.path is not None
    tars = sorted(map(str, (store.path / "data").glob("*.tar")))
    talks = []
    (to / "images").mkdir(parents=True)
    for sample in webdataset.WebDataset(tars, shardshuffle=False):
        name = f"{sample['__key__']}.jpg"
        with open(to / "images" / name, "wb") as file:
            file.write(sample["jpg"])
        turns = [
            {"from": "human", "value": "<image>\nPlease describe this image in detail."},
            {"from": "gpt", "value": sample["txt"].decode()},
        ]
        talks.append({"id": sample["__key__"], "image": name, "conversations": turns})
    with open(to / "eve.json", "w") as file:
        json.dump(talks, file)


def best(work: Callable[[Path], object], folder: Path) -> tuple[float, float]:
    """(seconds, CPU seconds) of the quickest of a few, each into a folder of its own, the disk being idle."""
    found = []
    for number in range(REPEATS):
        os.sync()
        wall, cpu = time.monotonic(), time.process_time()
        work(folder / f"{work.__name__}-{number}")
        found.append((time.monotonic() - wall, time.process_time() - cpu))
    return min(found)


def main() -> None:
    """The command line above."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=300)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="recap-export-") as name:
        folder = Path(name)
        store = corpus(folder, given.megabytes, 3)
        forms = {}
        for form in ("eve-json", "webdataset"):

            def ours(to: Path, form: str = form) -> object:
                return export(Order(corpus=store.url, to=str(to / form), format=form))

            forms[form] = best(ours, folder / form)
        script = best(lambda to: by_script(store, to), folder / "script")
    for form, (wall, cpu) in {**forms, "a script, eve-json": script}.items():
        rate = given.megabytes / wall
        print(f"{form}: {wall:.2f} s, {rate:.0f} MB/s, {cpu / (given.megabytes * 10) * 1000:.2f} ms CPU a sample; "
              f"{wall / script[0]:.2f} of the script's time, {cpu / script[1]:.2f} of its CPU")  # fmt: skip


if __name__ == "__main__":
    main()
