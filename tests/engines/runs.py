"""Runs over a few real pictures with a real server, and what that server says it did meanwhile."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import urllib.request
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from pipelines import demo
from shards import commits, ledger
from shards.ledger import Row
from shards.pack import Packed, pack
from shards.store import Store
from tests.engines.asking import BEARER, KEY
from tests.engines.beds import ENVIRONMENT
from tests.engines.photos import photo
from tests.processes import ROOT

KEY_VARIABLE = "RECAP_KEY_OF_A_TEST"
FILTERS = ("empty", "characters", "markup", "refusal", "echo", "truncated", "repetition", "length")
# A model of random weights speaks nonsense: no filter may judge it, or have it asked again with a temperature.
ASKED = (
    *("--model", "tiny", "--preset", "qwen2-vl", "--max-tokens", "24"),
    *("--without", "resolution", *FILTERS),
)
AROUND = {KEY_VARIABLE: KEY, "PYTHONPATH": str(ROOT), **ENVIRONMENT}
METRIC = re.compile(r"^(?P<name>(?:vllm|sglang):\w+)(?:\{(?P<labels>.*)\})? (?P<value>[-+.\de]+)$", re.M)


def pictures(generated: int) -> list[Packed]:
    """The photographs of the demo, and so many made ones."""
    found = sorted(Path(demo.__file__).parent.glob("photos/*.jpg"))
    jpegs = [*(path.read_bytes() for path in found), *(photo(number) for number in range(generated))]
    return [
        Packed(
            key=f"{number:09d}", extension="jpg", media=jpeg, caption=f"alt text {number}", fields={"uid": str(number)}
        )
        for number, jpeg in enumerate(jpegs)
    ]


def shards_of(folder: Path, samples: list[Packed], per_shard: int = 40) -> Path:
    """The samples, packed."""
    pack(Store(str(folder)), samples, per_shard)
    return folder


def command(input_: Path, out: Path, engine: str, *options: str) -> list[str]:
    """A run by one worker, who has the servers' key."""
    script = str(ROOT / "pipelines/recap_datacomp.py")
    words = [sys.executable, script, "--input", str(input_), "--output", str(out), "--engine", engine]
    return [*words, *ASKED, "--pace.workers", "1", *options]


def rows(out: Path) -> dict[str, Row]:
    """The whole ledger by key, which no two rows share."""
    store, found = Store(str(out)), dict[str, Row]()
    for shard in commits.committed(store):
        record = commits.read(store, shard)
        assert record is not None
        for row in ledger.from_parquet(store.read(next(f.name for f in record.files if f.name.endswith(".parquet")))):
            assert found.setdefault(row.key, row) is row, row.key
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a server did: tokens read and written, and its answers by why they ended, where it counts that."""

    prompt: int
    written: int
    answers: int
    finished: Counter[str]

    def since(self, before: Work) -> Work:
        return Work(
            prompt=self.prompt - before.prompt,
            written=self.written - before.written,
            answers=self.answers - before.answers,
            finished=self.finished - before.finished,
        )


def work(url: str) -> Work:
    """By its own metrics, since it started."""
    with urllib.request.urlopen(urllib.request.Request(f"{url}/metrics", headers=BEARER), timeout=60) as answer:
        text = answer.read().decode()
    sums, finished = Counter[str](), Counter[str]()
    for found in METRIC.finditer(text):
        name, value = found["name"].partition(":")[2], int(float(found["value"]))
        sums[name] += value
        if name == "request_success_total":
            reason = re.search(r'finished_reason="(\w+)"', found["labels"])
            assert reason is not None
            finished[reason[1]] += value
    return Work(
        prompt=sums["prompt_tokens_total"],
        written=sums["generation_tokens_total"],
        answers=sums["num_requests_total"] or finished.total(),
        finished=finished,
    )


def run(words: list[str], timeout: float = 600) -> subprocess.CompletedProcess[str]:
    """To its end."""
    return subprocess.run(
        words, capture_output=True, text=True, timeout=timeout, check=False, env=os.environ | AROUND, cwd=ROOT
    )


def started(words: list[str], log: Path) -> subprocess.Popen[bytes]:
    """On its way, what it says in a file."""
    with log.open("ab") as sink:
        return subprocess.Popen(words, stdout=sink, stderr=sink, env=os.environ | AROUND, cwd=ROOT)
