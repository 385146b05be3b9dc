"""A stand-in for an interpreter with img2dataset: writes the same files, and stalls, breaks or will not die if told.

img2dataset_stand_in.py BEHAVIOUR -I -c CODE            # says the version, as the real one would
img2dataset_stand_in.py BEHAVIOUR -I fetch.py ORDER     # makes shards
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq

from pipelines.urls.environment import VERSION
from shards.downloads import Round, wanted
from tests.img2dataset_files import write_shard
from tests.processes import ROOT


def python(folder: Path, behaviour: str, version: str = VERSION) -> str:
    """A program in folder that behaves so: `whole`, `stall` or `break` after its first shard; --img2dataset-python."""
    program = folder / f"python-{behaviour}-{version}"
    here = shlex.join([sys.executable, "-m", "tests.img2dataset_stand_in", behaviour])
    ask = f'case "$2" in -c) echo {version}; exit;; esac'
    program.write_text(f'#!/bin/sh\n{ask}\ncd {shlex.quote(str(ROOT))}\nexec {here} "$@"\n')
    program.chmod(0o755)
    return str(program)


def linger() -> None:
    """A grandchild of another session, deaf to SIGTERM, that holds on for ever."""
    if os.fork() == 0:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(600)


def main(behaviour: str, order: dict[str, object]) -> None:
    """The first shard that is not there yet, or with `whole` all of them."""
    lists, made = Path(str(order["url_list"])), Path(str(order["output_folder"]))
    parts = tuple((path.name, pq.read_metadata(path).num_rows) for path in sorted(lists.iterdir()))
    for one in wanted([Round(parts=parts)], int(str(order["number_sample_per_shard"]))):
        if (made / f"{one.name}_stats.json").exists():
            continue
        write_shard(made, lists, one, lambda row: row["url"].encode() if "good" in row["url"] else "timed out")
        if behaviour == "break":
            sys.exit("no space left, says the stand-in")
        if behaviour == "stall":
            (made / "00009.tar").write_bytes(b"a shard that is never finished")
            linger()
            time.sleep(600)


if __name__ == "__main__":
    main(sys.argv[1], json.loads(Path(sys.argv[-1]).read_text())["img2dataset"])
