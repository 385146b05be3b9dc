"""What the campaigns came to, and the page that says so: docs/chaos.md, written by nobody else."""

from __future__ import annotations

import json
import os
import secrets
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

MOST_REDONE = 64  # samples a kill may cost, as the design promises
SHOWN = 20
VERDICTS = ("lost", "doubled", "torn", "unaccounted")
OTHERWISE = "otherwise wrong"
DOUBLED = {"doubled"}
UNACCOUNTED = {"bytes", "counts", "input", "reasons", "unaccounted"}
LOST = {"lost", "missing_file"}
STATE = "<!-- state: "


@dataclass(slots=True)
class Result:
    """One campaign: what was done, what was found. redone_most and redone_sum: samples asked about again."""

    title: str
    wanted: str = ""
    date: str = ""
    kills: int = 0
    rounds: int = 0
    samples: int = 0
    redone_most: int = 0
    redone_sum: int = 0
    redone_kills: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    wrong: Counter[str] = field(default_factory=Counter)
    details: list[str] = field(default_factory=list)
    seconds: float = 0.0
    ended: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def book(self, kind: str, detail: str) -> None:
        """Something is wrong, of one of the kinds above."""
        with self._lock:
            self.wrong[kind] += 1
            if len(self.details) < SHOWN:
                self.details.append(f"{kind}: {detail}")

    def book_all(self, kind: str, found: Iterable[object], total: int) -> None:
        """So many of a kind, of which some are shown."""
        for each in found:
            self.book(kind, str(each))
            total -= 1
        with self._lock:
            self.wrong[kind] += max(0, total)

    def book_problem(self, check: str, detail: str) -> None:
        """What `verify` found, under the kind that its check speaks of."""
        kinds = (("doubled", DOUBLED), ("unaccounted", UNACCOUNTED), ("lost", LOST))
        self.book(next((kind for kind, checks in kinds if check in checks), "torn"), f"{check} {detail}")

    def killed(self, redone: int | None = None) -> None:
        """One more kill, and what it cost."""
        with self._lock:
            self.kills += 1
            if redone is not None:
                self.redone_most = max(self.redone_most, redone)
                self.redone_sum += redone
                self.redone_kills += 1
        if redone is not None and redone > MOST_REDONE:
            self.book(OTHERWISE, f"a kill cost {redone} samples, over {MOST_REDONE}")

    def over(self, samples: int) -> None:
        """A round is over."""
        with self._lock:
            self.rounds += 1
            self.samples += samples

    @property
    def verdict(self) -> str:
        """The four counts, or what stands in their way."""
        counts = " / ".join(str(self.wrong[kind]) for kind in VERDICTS)
        words = [] if self.ended else ["**NOT FINISHED**"]
        words += ["**WRONG**"] if self.wrong.total() else []
        words += [f"{self.wrong[OTHERWISE]} {OTHERWISE}"] if self.wrong[OTHERWISE] else []
        return " ".join([counts, *words])

    def row(self) -> str:
        """Its line of the table."""
        mean = self.redone_sum / self.redone_kills if self.redone_kills else 0.0
        redone = f"{self.redone_most} ({mean:.1f})" if self.redone_kills else "–"
        faults = f"{self.faults.total():,}" if self.faults else "–"
        cells = [self.title, f"{self.kills:,}", f"{self.rounds:,}", f"{self.samples:,}", faults, redone, self.verdict]
        return "| " + " | ".join([*cells, f"{self.seconds:,.0f}", self.date]) + " |"

    def plain(self) -> dict[str, object]:
        """The fields as JSON."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__ if not name.startswith("_")}
        return {name: dict(value) if isinstance(value, Counter) else value for name, value in values.items()}


HEAD = """| campaign | kills | rounds | samples | faults | redone a kill: most (mean) | lost / doubled / torn / unaccounted | seconds | date |
|---|---|---|---|---|---|---|---|---|"""  # noqa: E501

INTRODUCTION = """# Chaos

What killed workers, a bad network and sleeping zombies did to corpora. `make chaos` runs every campaign and writes this
page; `python -m tests.chaos --only NAME --page docs/chaos.md` runs one of {names} anew and keeps the other lines.
Nobody else writes it."""

LEGEND = f"""## What the columns mean

* **kills**: SIGKILLs that struck a live process. On disk and on S3 the victims are the workers of a run, without Ray
  around them, one at a time on a corpus; each life goes on where the last one was killed. A third of the kills
  come at a random moment (start-up too), a third after a random number of asks, a third the moment a write is seen.
  With Ray the victims are worker actors and the driver of runs as a user starts them. For the zombies: workers stopped.
* **rounds**: corpora made from nothing to their end (for the races: keys). **samples**: ledger rows judged at their
  ends (for the races: commits tried).
* **faults**: requests that the proxy between workers and store spoilt; by kind below.
* **redone a kill**: samples that the engine had been asked about in the killed life and that neither a commit record
  nor a journal kept, so that they are asked about again. Over {MOST_REDONE} is wrong.
* **lost**: samples of an undisturbed run that are not in the corpus with the same outcome, reason and caption; files
  gone. **doubled**: those that are there once too often. **torn**: records, ledgers, tars or manifests that are not as
  they were sealed. **unaccounted**: input bytes or counts that do not add up. All by `recap verify`, which reads every
  byte of corpus and input, and by comparing the two sets; S3 corpora are read straight from the store.

A failure would stand as a count above 0 and **WRONG**, with its first details below the table, and the command would
exit with code 1. A round that hangs, a process left behind, a crash of a worker or a campaign that ends early is also
wrong. **NOT FINISHED** is a campaign under way or interrupted."""

FAULTS = {
    "slow_down": "503 SlowDown; the request never reached the store",
    "internal": "500 InternalError; the request never reached the store",
    "too_many": "429; the request never reached the store",
    "reset": "the connection was reset before the request reached the store",
    "lose": "the store did as asked, and its answer was lost",
    "cut": "the answer's body was cut in the middle",
    "delay": "the answer came 0.2 s late",
}


@dataclass(slots=True)
class Page:
    """The page: every campaign's last result, by the campaign's name. path: None for no page."""

    path: Path | None
    command: str = ""
    names: tuple[str, ...] = ()
    results: dict[str, Result] = field(default_factory=dict)

    def recall(self) -> None:
        """What an earlier command left on the page."""
        text = self.path.read_text() if self.path is not None and self.path.exists() else ""
        for line in text.splitlines():
            if line.startswith(STATE):
                for name, values in json.loads(line.removeprefix(STATE).removesuffix(" -->")).items():
                    counted = {each: Counter(values[each]) for each in ("faults", "wrong")}
                    self.results[name] = Result(**values | counted)

    def text(self) -> str:
        """The whole page."""
        shown = {name: self.results[name] for name in self.names if name in self.results}
        names = ", ".join(f"`{name}`" for name in self.names)
        parts = [INTRODUCTION.format(names=names), f"Last command: `{self.command}`, on {machine()}."]
        parts.append("\n".join([HEAD, *(result.row() for result in shown.values())]))
        for result in shown.values():
            if result.details:
                parts.append("\n".join([f"{result.title}:", "", *(f"* `{each}`" for each in result.details)]))
        parts += [_faults(result) for result in shown.values() if result.faults]
        state = json.dumps({name: result.plain() for name, result in shown.items()}, sort_keys=True)
        return "\n\n".join([*parts, LEGEND, STATE + state + " -->"]) + "\n"

    def write(self) -> None:
        """Put the page in place, whole."""
        if self.path is not None:
            aside = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}")
            aside.write_text(self.text())
            os.replace(aside, self.path)


def machine() -> str:
    """Cores and memory, in words."""
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return f"{os.cpu_count()} cores with {pages * size / 2**30:.0f} GiB of memory"


def _faults(result: Result) -> str:
    counts = [f"| {kind} | {FAULTS.get(kind, kind)} | {count:,} |" for kind, count in result.faults.most_common()]
    lines = [f"Faults in “{result.title}”, {result.faults.total():,} of {result.requests:,} requests:", ""]
    return "\n".join([*lines, "| kind | what was done | times |", "|---|---|---|", *counts])
