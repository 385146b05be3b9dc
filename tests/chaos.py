"""The long campaigns: kill workers and drivers without end, stop and wake zombies, race writers, lose answers.

    python -m tests.chaos [--disk 1000] [--s3 200] [--actors 100] [--drivers 20] [--only NAME …] [--page FILE]

Each campaign compares what its runs came to with an undisturbed one and has `verify` prove it. Prints a line a
campaign, and each 10 s on stderr how far it is; the page is written as often. Exit code 0 when nothing was lost,
doubled, torn or unaccounted for and every campaign came to its end.
"""

from __future__ import annotations

import argparse
import datetime
import random
import shlex
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import SubprocessError

from captioner.errors import RecapError
from tests import kills
from tests.chaos_page import HEAD, OTHERWISE, Page, Result
from tests.chaos_race import race_on_disk, race_on_s3
from tests.chaos_workers import Hung, killed_on_disk, killed_on_s3, zombies
from tests.corpora import make_shards
from tests.processes import datacomp, kill, run, words

TELL_SECONDS = 10.0
KILLS_PER_RUN = 16
RUN_SECONDS = 900.0  # a run of 16 kills takes one or two minutes
RAY_SHARDS, RAY_SAMPLES = 8, 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """What a campaign is called, and how it is run into a result, in a folder of its own."""

    title: str
    wanted: int
    play: Callable[[Result, Path], None]


def campaigns(given: argparse.Namespace) -> dict[str, Campaign]:
    """Every campaign by its name; one of which nothing is wanted is left out."""
    seed, writers, keys = given.seed, given.writers, given.keys
    race, ray = f"{writers} writers race for each of {keys} keys", given.actors + given.drivers
    table = {
        "disk": Campaign(
            title="SIGKILL of workers, disk",
            wanted=given.disk,
            play=lambda result, folder: killed_on_disk(result, folder, given.disk, seed),
        ),
        "s3": Campaign(
            title="SIGKILL of workers, SeaweedFS behind a bad network",
            wanted=given.s3,
            play=lambda result, folder: killed_on_s3(result, folder, given.s3, seed),
        ),
        "race": Campaign(
            title=f"{race}, disk",
            wanted=writers * keys,
            play=lambda result, folder: race_on_disk(result, folder, writers, keys),
        ),
        "race-s3": Campaign(
            title=f"{race}, SeaweedFS behind a bad network",
            wanted=writers * keys,
            play=lambda result, folder: race_on_s3(result, folder, writers, keys, seed),
        ),
        "zombies": Campaign(
            title=f"SIGSTOP of workers for {given.zombie_seconds} s, then SIGCONT",
            wanted=given.zombie_seconds,
            play=lambda result, folder: zombies(result, folder, given.zombie_seconds),
        ),
        "ray": Campaign(
            title=f"SIGKILL of Ray actors ({given.actors}) and drivers ({given.drivers})",
            wanted=ray,
            play=lambda result, folder: ray_killed(result, folder, given.actors, given.drivers, seed),
        ),
    }
    return {name: each for name, each in table.items() if each.wanted and (not given.only or name in given.only)}


NAMES = ("disk", "s3", "race", "race-s3", "zombies", "ray")


def ray_killed(result: Result, folder: Path, actors: int, drivers: int, seed: int) -> None:
    """Kill Ray actors and the drivers of runs as a user starts them, some of both in a run."""
    make_shards(folder / "in", RAY_SHARDS, RAY_SAMPLES)
    whole = run(*datacomp(folder / "in", folder / "undisturbed", *kills.AT_ONCE), timeout=RUN_SECONDS)
    assert whole.returncode in (0, 1), whole.stderr
    victims = ["worker"] * actors + ["driver"] * drivers
    random.Random(seed).shuffle(victims)
    left: list[tuple[int, str]] = []
    while victims:
        here = folder / str(result.rounds)
        here.mkdir()
        for name in ("in", "undisturbed"):
            (here / name).symlink_to(folder / name)
        try:
            now = victims[:KILLS_PER_RUN]
            told = kills.campaign(here, now, seed + result.rounds, RUN_SECONDS, lambda victim: result.killed())
        except TimeoutError as error:
            result.book(OTHERWISE, str(error))
            break
        left += told.left
        if not told.kills:
            result.book(
                OTHERWISE, f"a run ended before anybody was killed: {told.false_ends or 'more samples are needed'}"
            )
            break
        for victim in told.kills.elements():
            victims.remove(victim)
        for problem in kills.judge(here, told):
            kind = next((kind for kind in ("lost", "doubled") if problem.startswith(kind)), OTHERWISE)
            result.book(kind, problem)
        result.over(sum(kills.answers(here / "out").values()))
    for pid, said in left:
        if words(pid) == said:
            kill(pid)


@contextmanager
def watched(result: Result, name: str, page: Page) -> Iterator[None]:
    """A line on stderr and the page anew each 10 s, until it is over."""
    started, over = time.monotonic(), threading.Event()

    def tell() -> None:
        while not over.wait(TELL_SECONDS):
            result.seconds = time.monotonic() - started
            faults = f", {result.faults.total():,} faults" if result.faults else ""
            print(
                f"{name}: {result.kills:,} kills, {result.rounds:,} rounds, {result.samples:,} samples{faults}, "
                f"{result.wrong.total()} wrong, {result.seconds:.0f} s",
                file=sys.stderr,
                flush=True,
            )
            page.write()

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        over.set()
        teller.join()
        result.seconds = time.monotonic() - started
        page.write()


def play(name: str, campaign: Campaign, page: Page) -> Result:
    """One campaign to its end, on the page; one that breaks is wrong, and the next goes on."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    result = page.results[name] = Result(campaign.title, date=today)
    with watched(result, name, page), tempfile.TemporaryDirectory(prefix="recap-chaos-") as folder:
        try:
            campaign.play(result, Path(folder))
            result.ended = True
        except (RecapError, OSError, RuntimeError, ValueError, AssertionError, SubprocessError, Hung) as error:
            traceback.print_exc()
            result.book(OTHERWISE, f"the campaign broke: {type(error).__name__}: {error}")
    print(result.row(), flush=True)
    print("\n".join(result.details), end="\n" if result.details else "", flush=True)
    return result


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def main(arguments: list[str] | None = None) -> int:
    """The command line above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = {"disk": 1000, "s3": 200, "actors": 100, "drivers": 20, "zombie-seconds": 60, "writers": 16, "keys": 40}
    for name, default in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--only", nargs="+", choices=NAMES, help="these campaigns; the page keeps the others")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--page", type=Path)
    given = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupted)  # so that what was started is ended
    said = shlex.join(["python", "-m", "tests.chaos", *(sys.argv[1:] if arguments is None else arguments)])
    page = Page(given.page, command=said, names=NAMES)
    page.recall()
    print(HEAD, flush=True)
    results = [play(name, campaign, page) for name, campaign in campaigns(given).items()]
    return int(any(result.wrong.total() or not result.ended for result in results))


if __name__ == "__main__":
    sys.exit(main())
