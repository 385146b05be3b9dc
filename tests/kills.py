"""Kill a run again and again, at random points, and compare what it came to with an undisturbed one.

    python -m tests.kills --kills 30 --seed 1

Workers, decoders and the driver are killed in turn; after a killed driver the same command goes on. Prints one word a
kill and a summary; exit code 0 when not one sample was lost, doubled or answered otherwise.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from captioner.recipe import Pace
from shards import commits, ledger, manifest
from shards.store import Store
from shards.verify import verify
from tests.corpora import make_shards
from tests.processes import alive, all_gone, datacomp, descendants, kill, run

MARKS = {"worker": "ray::Worker", "decoder": "captioner.media.decoder_child"}
# Long enough answers that a run outlives many kills, few enough slots that every one of them is busy.
FALSE_ENDS = 3  # runs that say that they are complete and are not, before a campaign ends
AT_ONCE = ("--fake.looping", "0.1", "--fake.refused", "0.05")
OPTIONS = (*AT_ONCE, "--fake.seconds", "0.25", "--pace.slots", "4")

Answers = Counter[tuple[str, str, str, str | None, str | None]]


@dataclass(slots=True)
class Campaign:
    """What was done to a run, and what came of it."""

    kills: Counter[str] = field(default_factory=Counter)
    runs: int = 0
    codes: list[int] = field(default_factory=list)
    orphans: int = 0
    false_ends: list[str] = field(default_factory=list)
    left: list[tuple[int, str]] = field(
        default_factory=list
    )  # Ray's own, who outlived a killed driver, and their words


def answers(out: Path | str) -> Answers:
    """Every (shard, key, outcome, reason, caption) of a corpus, counted."""
    store, found = Store(str(out)), Answers()
    for shard in commits.committed(store):
        record = commits.read(store, shard)
        assert record is not None
        name = next(file.name for file in record.files if file.name.endswith(".parquet"))
        for row in ledger.from_parquet(store.read(name)):
            found[(shard, row.key, row.outcome, row.reason, row.caption)] += 1
    return found


def in_turn(kills: int) -> list[str]:
    """Workers, decoders and the driver, in turn."""
    return [("worker", "decoder", "driver")[number % 3] for number in range(kills)]


def campaign(
    folder: Path, victims: list[str], seed: int, seconds: float = 900.0, note: Callable[[str], None] = print
) -> Campaign:
    """Run over folder/in until it is done, with these kills on the way, each noted by its victim's kind.

    Raises TimeoutError, with nobody left.
    """
    dice, told = random.Random(seed), Campaign()
    victims = list(victims)
    tries = len(victims) + 2
    end = time.monotonic() + seconds
    while victims or not told.codes or told.codes[-1] not in (0, 1) or not _whole(folder / "out"):
        with open(folder / "driver.log", "ab") as log:
            driver = subprocess.Popen(
                datacomp(folder / "in", folder / "out", *OPTIONS, "--pace.shard-tries", str(tries)),
                stdout=log,
                stderr=log,
            )
        told.runs += 1
        with _ended(driver):
            while victims and driver.poll() is None:
                if (victim := _strike(driver, victims[0], dice, told)) is not None:
                    victims.pop(0)
                    note(victim)
                if time.monotonic() > end:
                    raise TimeoutError(f"a run was not done after {seconds:.0f} s, with {len(victims)} kills to go")
            told.codes.append(_code(driver, end, seconds))
        if told.codes[-1] not in (0, 1):
            continue
        if not _whole(folder / "out"):
            told.false_ends.append(f"exit code {told.codes[-1]}, unfinished: {_last_words(folder / 'driver.log')}")
            if time.monotonic() > end or len(told.false_ends) == FALSE_ENDS:
                raise TimeoutError("; ".join(told.false_ends))
        elif victims:
            print(f"the run was done with {len(victims)} kills left over: give it more samples", file=sys.stderr)
            break
    return told


def _whole(out: Path) -> bool:
    newest = manifest.latest(Store(str(out)))
    return newest is not None and newest.complete


def _last_words(log: Path) -> str:
    return " | ".join(log.read_text(errors="replace").splitlines()[-2:])[-300:]


def _code(driver: subprocess.Popen[bytes], end: float, seconds: float) -> int:
    try:
        return driver.wait(timeout=max(1.0, end - time.monotonic()))
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"a run was not done after {seconds:.0f} s") from None


@contextmanager
def _ended(driver: subprocess.Popen[bytes]) -> Iterator[None]:
    """Whatever happens, the driver and all that it started are gone afterwards."""
    try:
        yield
    finally:
        if driver.poll() is None:
            family = descendants(driver.pid)
            driver.kill()
            driver.wait()
            for pid in family:
                kill(pid)


def _strike(driver: subprocess.Popen[bytes], victim: str, dice: random.Random, told: Campaign) -> str | None:
    """Wait a random while, then kill one of the victim's kind; its kind, or None when nobody was there to kill."""
    time.sleep(dice.uniform(0.3, 3.0))
    family = descendants(driver.pid)
    if not any(MARKS["decoder"] in words for words in family.values()):
        return None  # not at work yet
    if victim == "driver":
        pids = [driver.pid]
    else:
        pids = sorted(pid for pid, words in family.items() if MARKS[victim] in words)
    if not pids or not kill(dice.choice(pids)):
        return None
    told.kills[victim] += 1
    if victim == "driver":
        driver.wait()
        # Ray's own agents live on for about a minute; ours must not.
        ours = [pid for pid, words in family.items() if any(mark in words for mark in MARKS.values())]
        told.orphans += not all_gone(ours, 30)
        told.left += [(pid, words) for pid, words in family.items() if alive(pid)]
    return victim


def judge(folder: Path, told: Campaign) -> list[str]:
    """What is wrong with the corpus; nothing, if all is well."""
    undisturbed = answers(folder / "undisturbed")
    disturbed = answers(folder / "out")
    verdict = verify(Store(str(folder / "out")))
    wrong = [f"{problem.check} {problem.where}: {problem.detail}" for problem in verdict.problems]
    wrong += [f"lost or otherwise: {each}" for each in list(undisturbed - disturbed)[:5]]
    wrong += [f"doubled or otherwise: {each}" for each in list(disturbed - undisturbed)[:5]]
    wrong += [f"{told.orphans} killed drivers left processes behind"] if told.orphans else []
    wrong += told.false_ends
    wrong += [] if verdict.complete else ["the run did not finish"]
    return wrong


def main(arguments: list[str] | None = None) -> int:
    """The command line above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--samples", type=int, default=100, help="a shard")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="recap-kills-") as name:
        folder = Path(name)
        make_shards(folder / "in", given.shards, given.samples)
        whole = run(*datacomp(folder / "in", folder / "undisturbed", *AT_ONCE), timeout=600)
        assert whole.returncode in (0, 1), whole.stderr
        started = time.monotonic()
        told = campaign(folder, in_turn(given.kills), given.seed)
        wrong = judge(folder, told)
        print(
            f"{sum(told.kills.values())} kills ({dict(told.kills)}) over {told.runs} runs in "
            f"{time.monotonic() - started:.0f} s; {sum(answers(folder / 'out').values())} samples; "
            f"journal at most {Pace().journal_every} behind a shard"
        )
    print("\n".join(wrong) or "lost 0, doubled 0, torn 0, unaccounted 0: the same set as the undisturbed run")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
