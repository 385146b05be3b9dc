"""The long campaigns: kill workers and drivers without end, stop and wake zombies, race writers, lose answers.

    python -m tests.chaos [--disk 1000] [--s3 200] [--actors 100] [--drivers 20] [--seed 1] [--page FILE]

Each campaign compares what its runs came to with an undisturbed one and has `verify` prove it. Prints one page; exit
code 0 when nothing was lost, doubled, torn or unaccounted for.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from shards import commits, journal, manifest
from shards import plan as plans
from shards.store import Store
from shards.verify import verify
from tests import kills
from tests.corpora import planned, run_here
from tests.loneworker import Workers, recipe
from tests.processes import alive, kill, run
from tests.tinyshards import make_tiny_shards

MOST_REDONE = 64  # samples a kill may cost, as the design promises


@dataclass(slots=True)
class Result:
    """One campaign's line on the page."""

    name: str
    kills: int = 0
    rounds: int = 0
    samples: int = 0
    redone: list[int] = field(default_factory=list)
    faults: int = 0
    wrong: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def row(self) -> str:
        """The line."""
        most = f"{max(self.redone)} ({statistics.mean(self.redone):.1f})" if self.redone else "-"
        verdict = "0 / 0 / 0 / 0" if not self.wrong else f"WRONG: {len(self.wrong)}"
        cells = [self.name, self.kills, self.rounds, f"{self.samples:,}", self.faults or "-", most, verdict]
        return "| " + " | ".join(map(str, [*cells, f"{self.seconds:.0f}"])) + " |"


HEAD = """| campaign | kills | rounds | samples | faults injected | redone a kill: most (mean) | lost / doubled / torn / unaccounted | seconds |
|---|---|---|---|---|---|---|---|"""  # noqa: E501


def durable(out: str) -> int:
    """Samples whose caption a kill can no longer take: committed, or in a journal."""
    store = Store(out)
    plan = plans.read(store)
    if plan is None:
        return 0
    done = commits.committed(store)
    records = [record for shard in done if (record := commits.read(store, shard))]
    asked = sum(record.counts["captioned"] + record.counts["failed"] + record.counts["rejected"] for record in records)
    open_shards = [each.shard for each in plan.inputs if each.shard not in done]
    kept = [journal.load(store, plan.run_id, shard) for shard in open_shards]
    return asked + sum(1 for entries in kept for entry in entries.values() if entry.row.attempts)


def asked(log: Path) -> int:
    """Asks that reached the engine."""
    return log.stat().st_size if log.exists() else 0


def judged(undisturbed: kills.Answers, out: str, result: Result) -> None:
    """Book what is wrong with one round's corpus."""
    store = Store(out)
    plan = plans.read(store)
    assert plan is not None
    manifest.publish(store, plan, "chaos")
    verdict = verify(store)
    found = kills.answers(out)
    result.samples += sum(found.values())
    result.rounds += 1
    result.wrong += [f"{problem.check} {problem.where}: {problem.detail}" for problem in verdict.problems]
    result.wrong += [] if verdict.complete else ["a round that ended is not complete"]
    result.wrong += [f"lost or otherwise: {each}" for each in list(undisturbed - found)[:3]]
    result.wrong += [f"doubled or otherwise: {each}" for each in list(found - undisturbed)[:3]]


def kill_campaign(result: Result, folder: Path, outs: Iterator[str], wanted: int, seed: int) -> None:
    """Kill lone workers until so many have died at work; every round runs one corpus to its end."""
    dice, environment = random.Random(seed), dict(os.environ)
    shards = make_tiny_shards(folder / "in", shards=40, per_shard=40)
    whole = recipe(folder / "undisturbed.log")
    run_here(whole, planned(whole, shards), folder / "undisturbed")
    undisturbed = kills.answers(folder / "undisturbed")
    while result.kills < wanted:
        out, log = next(outs), folder / f"asked-{result.rounds}.log"
        workers = Workers(folder, {"in": str(shards), "out": out, "log": str(log)}, environment)
        while _one_life(workers, out, log, dice, result, wanted):
            pass
        workers.close()
        judged(undisturbed, out, result)


def _one_life(workers: Workers, out: str, log: Path, dice: random.Random, result: Result, wanted: int) -> bool:
    """Start a worker and kill it, or let it end when enough have died; whether there is more to do."""
    asked_before, durable_before = asked(log), durable(out)
    pid = workers.start()
    if result.kills < wanted:
        _wait_for_end(pid, dice.uniform(0.2, 1.6))
    else:
        _wait_for_end(pid, 600)
    if not alive(pid):
        return not _complete(out)
    kill(pid)
    _wait_for_end(pid, 30)
    result.kills += 1
    result.redone.append(max(0, asked(log) - asked_before - (durable(out) - durable_before)))
    return True


def _complete(out: str) -> bool:
    store = Store(out)
    plan = plans.read(store)
    return plan is not None and len(commits.committed(store)) == len(plan.inputs)


def _wait_for_end(pid: int, seconds: float) -> None:
    end = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.01)


def zombies(result: Result, folder: Path, seconds: float) -> None:
    """Stop a worker in the middle, let another finish the corpus, wake the first: nothing changes."""
    shards = make_tiny_shards(folder / "in", shards=20, per_shard=40)
    whole = recipe(folder / "undisturbed.log")
    run_here(whole, planned(whole, shards), folder / "undisturbed")
    out = str(folder / "out")
    workers = Workers(folder, {"in": str(shards), "out": out, "log": str(folder / "log")}, {})
    sleepers = [workers.start() for _ in range(3)]
    while asked(folder / "log") < 60:
        time.sleep(0.01)
    for pid in sleepers:
        os.kill(pid, signal.SIGSTOP)
    stopped = time.monotonic()
    _wait_for_end(workers.start(), 120)
    records = {path: path.read_bytes() for path in (folder / "out/commits").iterdir()}
    time.sleep(max(0.0, seconds - (time.monotonic() - stopped)))
    for pid in sleepers:
        os.kill(pid, signal.SIGCONT)
    for pid in sleepers:
        _wait_for_end(pid, 120)
    workers.close()
    changed = [path.name for path, data in records.items() if path.read_bytes() != data]
    result.wrong += [f"a zombie changed {name}" for name in changed]
    judged(kills.answers(folder / "undisturbed"), out, result)


def ray_campaign(result: Result, folder: Path, actors: int, drivers: int, seed: int) -> None:
    """Kill Ray actors, their decoders and the driver of runs that a user started."""
    per_run = 12
    while result.kills < actors + drivers:
        here = folder / str(result.rounds)
        kills.make_shards(here / "in", 8, 120)
        whole = run(*kills.datacomp(here / "in", here / "undisturbed", *kills.OPTIONS), timeout=600)
        assert whole.returncode in (0, 1), whole.stderr
        share = max(1, round(per_run * drivers / (actors + drivers)))
        told = kills.campaign(here, ["worker"] * (per_run - share) + ["driver"] * share, seed + result.rounds)
        result.kills += sum(told.kills.values())
        result.rounds += 1
        result.samples += sum(kills.answers(here / "out").values())
        result.wrong += kills.judge(here, told)


@contextmanager
def timed(result: Result) -> Iterator[Path]:
    """A folder for a campaign, and its seconds on the page."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="recap-chaos-") as name:
        yield Path(name)
    result.seconds = time.monotonic() - started
    print(result.row(), flush=True)
    print("\n".join(result.wrong[:20]), end="\n" if result.wrong else "", flush=True)


def numbered(prefix: str) -> Iterator[str]:
    """An output folder for every round."""
    number = 0
    while True:
        yield f"{prefix}{number}"
        number += 1


def main(arguments: list[str] | None = None) -> int:
    """The command line above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("disk", 1000), ("s3", 200), ("actors", 100), ("drivers", 20), ("zombie-seconds", 60)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--page", type=Path)
    given = parser.parse_args(arguments)
    print(HEAD, flush=True)
    results = []
    if given.disk:
        results.append(Result("SIGKILL of workers, disk"))
        with timed(results[-1]) as folder:
            kill_campaign(results[-1], folder, numbered(f"{folder}/out-"), given.disk, given.seed)
    if given.zombie_seconds:
        results.append(Result(f"SIGSTOP {given.zombie_seconds} s, SIGCONT"))
        with timed(results[-1]) as folder:
            zombies(results[-1], folder, given.zombie_seconds)
    if given.actors + given.drivers:
        results.append(Result("SIGKILL of Ray actors and drivers"))
        with timed(results[-1]) as folder:
            ray_campaign(results[-1], folder, given.actors, given.drivers, given.seed)
    if given.page:
        given.page.write_text("\n".join([HEAD, *(result.row() for result in results)]) + "\n")
    return int(any(result.wrong for result in results))


if __name__ == "__main__":
    sys.exit(main())
