"""Flip single bits in the files of a corpus and ask verify.

    python -m tests.bitrot --flips 1000 --seed 1

Journals are left out: they are a cache that is never believed without its own hash. So are card, Croissant and report,
which are views. Prints a line a kind of file; exit code 0 when every flip was found and its file named.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from shards.store import Store
from shards.verify import verify
from tests.corpora import fake_recipe, make_shards, planned, run_here

KINDS = {"plan": "plan.json", "record": "commits/*.json", "manifest": "manifests/*.json", "tar": "data/*.tar",
         "parquet": "data/*.parquet"}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Flip:
    """One flipped bit and what verify made of it."""

    kind: str
    name: str
    bit: int
    found: bool
    named: bool


def corpus(folder: Path, shards: int = 3, samples: int = 6) -> Path:
    """A finished corpus with two manifests; its folder."""
    recipe = fake_recipe(refused=0.1)
    plan = planned(recipe, make_shards(folder / "in", shards, samples))
    run_here(recipe, plan, folder / "out", shards=["00000"])
    run_here(recipe, plan, folder / "out", shards=[f"{number:05d}" for number in range(1, shards)])
    return folder / "out"


def flips(out: Path, count: int, dice: random.Random) -> Iterator[Flip]:
    """So many flips, each in a file of a kind whose turn it is, undone before the next."""
    for number in range(count):
        kind = list(KINDS)[number % len(KINDS)]
        path = dice.choice(sorted(out.glob(KINDS[kind])))
        sound = path.read_bytes()
        bit = dice.randrange(8 * len(sound))
        damaged = bytearray(sound)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        verdict = verify(Store(str(out)), read_input=False)
        path.write_bytes(sound)
        name = str(path.relative_to(out))
        named = any(problem.where == name for problem in verdict.problems)
        yield Flip(kind=kind, name=name, bit=bit, found=verdict.exit_code == 4, named=named)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flips", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(arguments)
    tried, found, missed = Counter[str](), Counter[str](), []
    with tempfile.TemporaryDirectory(prefix="recap-bitrot-") as folder:
        for flip in flips(corpus(Path(folder)), given.flips, random.Random(given.seed)):
            tried[flip.kind] += 1
            found[flip.kind] += flip.found and flip.named
            missed += [] if flip.found and flip.named else [flip]
    for kind in KINDS:
        print(f"{kind:10} {found[kind]:5d} of {tried[kind]:5d} found and named")
    print("\n".join(map(str, missed)) or f"all {given.flips} found")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
