"""What a power cut may leave of a run, and what must hold in every such state.

    python -m tests.crashstates --states 50000

records real runs (attempts that die, race and resume), builds every state that a power cut may leave after any of their
file operations, and checks each. Prints what it saw; exit code 0 when every state is sound.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from captioner.errors import CorruptState, OutOfService
from captioner.recipe import Pace, Recipe
from shards import card, commits, journal, ledger, manifest
from shards import plan as plans
from shards.blob import MemoryBlob
from shards.plan import Plan
from shards.store import Store
from shards.verify import verify
from tests.corpora import fake_recipe, make_shards, planned, run_here
from tests.crashdisk import FOLDER, Disk, Op, Recorder, Trace, Tree, Weakness, interleaved

SHARDS, SAMPLES = ("00000", "00001", "00002"), 8
OFTEN = Pace(journal_every=1)
# Right after these a process is killed: where a folder, a record or a manifest is there and nobody has synced it.
DEATHS = (
    *("make .*/out$", "make .*/commits$", r"make .*commits/00002\.json", r"make .*000001\.json$", r"make .*tar$"),
    *(r"make .*plan\.json", "make .*journal/00000-.*/000002", "make .*00001.*parquet", "drop .*journal/"),
)
PER_PREFIX = 96  # states drawn of one moment, where there are more

Truth = dict[tuple[str, str], tuple[str, str | None, str | None]]  # (shard, key) -> (outcome, reason, caption)


class Snapshot(Store):
    """A tree as a store, in memory: what is read is what a power cut left."""

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__("/snapshot")
        self._files = files

    def names(self, prefix: str = "") -> list[str]:
        return sorted(name for name in self._files if name.startswith(prefix))

    def read(self, name: str) -> bytes:
        if name not in self._files:
            raise FileNotFoundError(name)
        return self._files[name]

    def blob(self, name: str) -> MemoryBlob:  # type: ignore[override]
        return MemoryBlob(self.read(name))


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """The same little job for every scenario, and what an undisturbed run answers."""

    recipe: Recipe
    plan: Plan
    truth: Truth


def work(folder: Path) -> Work:
    """Three shards, captioned once without any trouble."""
    recipe = fake_recipe(refused=0.1, looping=0.1)
    plan = planned(recipe, make_shards(folder / "in", len(SHARDS), SAMPLES))
    run_here(recipe, plan, folder / "undisturbed")
    return Work(recipe=recipe, plan=plan, truth=answers(Store(str(folder / "undisturbed"))))


def answers(store: Store) -> Truth:
    """Every row of every committed shard, engine times left out."""
    found: Truth = {}
    for shard in commits.committed(store):
        record = commits.read(store, shard)
        assert record is not None
        name = next(file.name for file in record.files if file.name.endswith(".parquet"))
        for row in ledger.from_parquet(store.read(name)):
            assert (shard, row.key) not in found, f"{row.key} stands twice"
            found[(shard, row.key)] = (row.outcome, row.reason, row.caption)
    return found


def resume(job: Work, out: Path) -> None:
    """What the same command does again: the shards without a record, then manifest and card."""
    store = Store(str(out))
    plans.enter(store, job.plan)
    left = [shard for shard in SHARDS if shard not in commits.committed(store)]
    if left:
        run_here(job.recipe, job.plan, out, shards=left, pace=OFTEN)
    newest = manifest.publish(store, job.plan, "test")
    if newest.complete:
        card.write(store, job.plan, newest)


def recorded(job: Work, root: Path, weakness: Weakness = "") -> Trace:
    """Four processes on one output: a first shard, a second, another attempt at the first, and one that resumes."""
    trace = Trace(root)
    root.mkdir(parents=True)
    for process, shards in (("first", SHARDS[:1]), ("second", SHARDS[1:2]), ("zombie", SHARDS[:1])):
        with Recorder(trace, process, weakness=weakness) as recorder:
            if process != "first":  # it found the plan that the first one made
                recorder.seen("out/plan.json")
            run_here(job.recipe, job.plan, root / "out", shards=shards, pace=OFTEN, zombie=process == "zombie")
    with Recorder(trace, "last", weakness=weakness) as recorder:
        recorder.seen("out/plan.json")
        resume(job, root / "out")
    return trace


def killed(job: Work, root: Path, die_at: str, weakness: Weakness = "") -> Trace:
    """A run that is killed right after one operation, and the same command again."""
    trace = Trace(root)
    root.mkdir(parents=True)
    with Recorder(trace, "killed", die_at=die_at, weakness=weakness), suppress(OutOfService):
        resume(job, root / "out")
    with Recorder(trace, "again", weakness=weakness):
        resume(job, root / "out")
    return trace


def racing(trace: Trace, dice: random.Random, asleep: str = "") -> Trace:
    """The recorded processes at the same time, without their manifests, which depend on who was first.

    asleep: the name after whose making one of them stands still; any, if not given.
    """
    manifests = {op.target for op in trace.ops if op.kind == "make" and op.name == "manifests"}
    ops = [op for op in trace.ops if op.node not in manifests and not op.name.startswith("out/manifests/")]
    by_process: dict[str, list[Op]] = {}
    for op in ops:
        if op.target not in manifests:
            by_process.setdefault(op.process, []).append(op)
    return Trace(trace.root, interleaved(list(by_process.values()), dice, asleep), trace.contents, trace._known)


@dataclass(slots=True, kw_only=True)
class Judge:
    """Checks states, each distinct one once; wrong counts what did not hold."""

    job: Work
    trees: dict[Tree, Trace] = field(default_factory=dict)
    moments: int = 0
    lasting: set[Tree] = field(default_factory=set)  # the distinct states without journals and empty folders
    wrong: Counter[str] = field(default_factory=Counter)
    _entries: dict[bytes, bool] = field(default_factory=dict)

    def watch(self, trace: Trace, dice: random.Random, most: int = 10**9) -> None:
        """Every state after every prefix of a trace, until there are `most` distinct ones in all."""
        disk = Disk()
        for op in trace.ops:
            disk.apply(op)
            if op.kind in ("file", "folder", "taken", "seen") or len(self.trees) >= most:
                continue
            self.moments += 1
            for tree in disk.trees(trace.halves, PER_PREFIX, dice):
                self._promises(tree, disk)
                if tree not in self.trees:
                    self.trees[tree] = trace
                    self.wrong.update(self._state(tree, trace))

    def _promises(self, tree: Tree, disk: Disk) -> None:
        there = dict(tree)
        for name, contents in disk.told.items():
            if {there.get(name)} != contents:
                self.wrong[f"promised, then gone or changed: {name.split('/')[1]}"] += 1

    def _state(self, tree: Tree, trace: Trace) -> Iterator[str]:
        """What does not hold in one state, in a few words. Journals are judged apart, the rest once a combination."""
        files = {path.removeprefix("out/"): content for path, content in tree if content != FOLDER}
        lasting = frozenset(each for each in files.items() if not each[0].startswith("journal/"))
        segments = (trace.contents[content] for name, content in files.items() if name.startswith("journal/"))
        yield from ("a journal that lies" for segment in segments if not self._honest(segment))
        if lasting in self.lasting:
            return
        self.lasting.add(lasting)
        store = Snapshot({name: trace.contents[content] for name, content in lasting})
        try:
            plan = plans.read(store)
            if plan is not None and plan.run_id != self.job.plan.run_id:
                yield "another plan"
            if plan is None and store.names("commits/"):
                yield "a record without a plan"
            yield from self._records_of(store)
            yield from self._manifests_of(store)
        except CorruptState as error:
            yield f"torn: {str(error).split()[1].split('/')[0]}"
        if "plan.json" in store.names():
            yield from (f"verify: {problem.check}" for problem in verify(store, read_input=False).problems)

    def _records_of(self, store: Store) -> Iterator[str]:
        for shard in commits.committed(store):
            record = commits.read(store, shard)
            assert record is not None
            for file in record.files:
                there = store.read(file.name) if file.name in store.names() else None
                if there is None or (len(there), commits.sha256_of(there)) != (file.bytes, file.sha256):
                    yield f"a record whose {file.name.rpartition('.')[2]} is not there as it says"

    def _manifests_of(self, store: Store) -> Iterator[str]:
        known = {shard: commits.read(store, shard) for shard in commits.committed(store)}
        for number in manifest.numbers(store):
            for shard, sha256 in manifest.read(store, number).shards:
                record = known.get(shard)
                if record is None or record.sha256 != sha256:
                    yield "a manifest whose records are gone or others"

    def _honest(self, segment: bytes) -> bool:
        """Whether a journal segment says what an undisturbed run says, or nothing."""
        if segment not in self._entries:
            rows = [entry.row for entry in journal.decode(self.job.plan.run_id, segment)]
            said = {(row.source_shard, row.key): (row.outcome, row.reason, row.caption) for row in rows}
            self._entries[segment] = said.items() <= self.job.truth.items()
        return self._entries[segment]


def materialised(tree: Tree, trace: Trace, out: Path) -> None:
    """A state as a folder on the disk, as the machine finds it after the power is back."""
    out.mkdir(parents=True)
    for path, content in sorted(tree):
        if content == FOLDER:
            (out.parent / path).mkdir(exist_ok=True)
        else:
            (out.parent / path).write_bytes(trace.contents[content])


def resumed(job: Work, states: Iterable[tuple[Tree, Trace]], folder: Path) -> list[str]:
    """Run the same command on each state; what is not as in the undisturbed run."""
    wrong = []
    for number, (tree, trace) in enumerate(states):
        out = folder / f"state-{number}" / "out"
        materialised(tree, trace, out)
        resume(job, out)
        store = Store(str(out))
        verdict = verify(store)
        if answers(store) != job.truth:
            wrong.append(f"state {number}: other answers")
        if verdict.problems or not verdict.complete:
            wrong.append(f"state {number}: {verdict.problems or verdict.notes}")
    return wrong


def traces(job: Work, folder: Path, races: int, dice: random.Random, deaths: Sequence[str] = DEATHS) -> list[Trace]:
    """All scenarios: one after another, killed and resumed, at the same time."""
    whole = recorded(job, folder / "whole")
    dead = [killed(job, folder / f"killed-{number}", die_at) for number, die_at in enumerate(deaths)]
    return [whole, *dead, *(racing(whole, dice) for _ in range(races))]


def drawn(judge: Judge, count: int, dice: random.Random) -> list[tuple[Tree, Trace]]:
    """Some of the states."""
    states = sorted(judge.trees.items(), key=lambda state: sorted(state[0]))
    return dice.sample(states, min(count, len(states)))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--states", type=int, default=50_000)
    parser.add_argument("--races", type=int, default=60)
    parser.add_argument("--resumes", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(arguments)
    dice = random.Random(given.seed)
    with tempfile.TemporaryDirectory(prefix="recap-crash-") as name:
        job = work(Path(name))
        judge = Judge(job=job)
        for trace in traces(job, Path(name), given.races, dice):
            judge.watch(trace, dice, given.states)
        print(f"{len(judge.trees)} states ({len(judge.lasting)} without journals) at {judge.moments} moments")
        wrong = [f"{times} x {what}" for what, times in judge.wrong.most_common()]
        wrong += resumed(job, drawn(judge, given.resumes, dice), Path(name) / "resumed")
    print("\n".join(wrong) or "nothing torn, nothing lost, every resumed run ends with the same answers")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
