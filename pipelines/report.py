"""The report: one page, self-contained, that shows what a run made of its pictures and why."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import heapq
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from captioner.errors import Refused
from captioner.reasons import OUTCOMES, REASONS, SHARD_REASONS, Reason
from captioner.types import Picture
from pipelines.report_overlay import Overlay, overlay
from pipelines.report_pictures import Candidates, Shown, drawn, finds, frames_of, thumbnails
from pipelines.report_plots import Histogram, Scatter, Share, histogram, quantile, scatter, shares
from shards import commits, ledger
from shards import plan as plans
from shards.commits import Record
from shards.ledger import Row
from shards.plan import Plan
from shards.status import Status, status
from shards.store import Store

NAME = "report.html"
LEDGERS = 64  # shards whose ledgers are read, for plots and pictures; the counts are always of all
DOTS = 600
LONGEST_TEXT = 4000  # characters of a caption or alt text on the page: a sidecar may hold megabytes


@dataclass(slots=True, kw_only=True)
class Measured:
    """What the ledgers say in numbers. words_before: of alt texts; words_now, seconds: of captioned samples."""

    words_before: Counter[float] = field(default_factory=Counter)
    words_now: Counter[float] = field(default_factory=Counter)
    seconds: Counter[float] = field(default_factory=Counter)
    sizes: list[tuple[str, tuple[int, int, str]]] = field(default_factory=list)
    rows: int = 0

    def add(self, rows: list[Row]) -> None:
        """Take one ledger into account."""
        self.rows += len(rows)
        for row in rows:
            if row.original_caption:
                self.words_before[len(row.original_caption.split())] += 1
            if row.outcome == "captioned" and row.words is not None:
                self.words_now[row.words] += 1
            if row.engine_seconds is not None:
                self.seconds[round(row.engine_seconds, 2)] += 1
            if row.width and row.height:
                self.sizes.append((drawn(row), (row.width, row.height, row.outcome)))
        self.sizes = heapq.nsmallest(DOTS, self.sizes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One picture on the page. source: its thumbnail as a data URI, empty where `missing` says why there is none.

    strip: of a clip, (seconds as m:ss, data URI) of frames that were looked at.
    """

    row: Row
    source: str
    missing: str
    reason: Reason | None
    overlay: Overlay | None
    tags: tuple[str, ...]
    raw: str
    strip: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Why:
    """A line of the table of reasons."""

    name: str
    reason: Reason
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything the page shows. looked_at: shards whose ledgers were read; date: when the last of them was begun."""

    status: Status
    plan: Plan
    date: str
    looked_at: int
    measured: Measured
    cards: tuple[Card, ...]

    @property
    def counts(self) -> Mapping[str, int]:
        return {name: self.status.totals["counts"].get(name, 0) for name in ("read", *OUTCOMES)}

    @property
    def unaccounted(self) -> int:
        return self.counts["read"] - sum(self.counts[name] for name in OUTCOMES)

    @property
    def equation(self) -> str:
        return f"{self.counts['read']:,} = " + " + ".join(f"{self.counts[name]:,}" for name in OUTCOMES)

    @property
    def shares(self) -> tuple[Share, ...]:
        return shares(self.counts)

    @property
    def reasons(self) -> list[Why]:
        """The reasons that occur, the most frequent first."""
        found = self.status.totals["reasons"].items()
        lines = [Why(name=name, reason=reason_of(name), count=count) for name, count in found]
        return sorted(lines, key=lambda why: (OUTCOMES.index(why.reason.outcome), -why.count, why.name))

    @property
    def shard_reasons(self) -> list[tuple[str, int, str]]:
        """(name, shards, meaning) of what was odd about whole shards."""
        found = self.status.totals["shard_reasons"].items()
        return [(name, count, SHARD_REASONS[name].meaning if name in SHARD_REASONS else "") for name, count in found]

    @property
    def histograms(self) -> list[Histogram]:
        measured = self.measured
        words = {"Before: alt text": measured.words_before, "Now: caption": measured.words_now}
        made = [
            histogram("Words per caption", "words", words, least_step=1),
            histogram("Engine time per caption", "s", {"Engine": measured.seconds}, least_step=0.01),
        ]
        return [each for each in made if each]

    @property
    def sizes(self) -> Scatter | None:
        return scatter([size for _, size in self.measured.sizes])

    @property
    def medians(self) -> Mapping[str, float | None]:
        """The middle one of each: words before, words now, engine seconds; None where there is nothing."""
        measured = self.measured
        each = {"before": measured.words_before, "now": measured.words_now, "seconds": measured.seconds}
        return {name: quantile(counts, 0.5) if counts else None for name, counts in each.items()}


def write_report(store: Store, samples: int = 60) -> str:
    """Write report.html anew, with at most so many pictures; its path or URL. Raises Refused where there is no run."""
    if samples < 0:
        raise Refused(f"--samples {samples} cannot be; give 0 or more")
    page = render(gathered(store, samples)).encode("utf-8", "replace")
    store.delete([NAME])  # a view of what is there, not a part of it
    store.create(NAME, page)
    return str(store.path / NAME) if store.path is not None else store.url_of(NAME)


def gathered(store: Store, samples: int) -> Report:
    """Read what the page shows: all totals, and the ledgers of some shards, drawn by hash when there are many."""
    there = status(store)
    plan = plans.read(store)
    assert plan is not None, "status would have refused"
    visited = sorted(commits.committed(store), key=lambda shard: hashlib.sha256(shard.encode()).digest())[:LEDGERS]
    records = {shard: record for shard in visited if (record := commits.read(store, shard))}
    measured, candidates = Measured(), Candidates(most=samples)
    for number, record in enumerate(records.values()):
        rows = rows_of(store, record)
        measured.add(rows)
        candidates.add(number, rows)
    shown = asyncio.run(thumbnails(finds(store, plan, records, candidates.chosen()), frames_of(plan)))
    shown.sort(key=lambda each: (OUTCOMES.index(each.row.outcome), each.row.source_shard, each.row.place))
    return Report(
        status=there,
        plan=plan,
        date=_date(max((record.epoch for record in records.values()), default=None)),
        looked_at=len(records),
        measured=measured,
        cards=tuple(card(each) for each in shown),
    )


def rows_of(store: Store, record: Record) -> list[Row]:
    """The ledger of a committed shard."""
    ledgers = [file.name for file in record.files if file.name.endswith(".parquet")]
    return [row for name in ledgers for row in ledger.from_parquet(store.read(name))]


def _date(epoch: int | None) -> str:
    return "" if epoch is None else datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%d %H:%M UTC")


def card(shown: Shown) -> Card:
    """A picture as the page shows it."""
    row, picture = shown.row, shown.thumbnail
    source = _data_uri(picture) if picture else ""
    return Card(
        row=row,
        source=source,
        missing=shown.missing,
        reason=reason_of(row.reason) if row.reason else None,
        overlay=overlay(shown.facts, picture.width, picture.height) if picture and shown.facts else None,
        tags=_tags(shown.facts.get("tags")),
        raw=json.dumps(shown.facts, indent=1, ensure_ascii=False) if shown.facts else "",
        strip=tuple((f"{int(at) // 60}:{int(at) % 60:02d}", _data_uri(frame)) for at, frame in shown.strip),
    )


def _data_uri(picture: Picture) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(picture.jpeg).decode()


def _tags(tags: Any) -> tuple[str, ...]:
    known = [tag for tag in tags if isinstance(tag, dict)] if isinstance(tags, list) else []
    return tuple(f"{tag.get('name', '')} {_percent(tag.get('score'))}".strip() for tag in known)


def _percent(score: Any) -> str:
    return f"{score:.0%}" if isinstance(score, int | float) else ""


def reason_of(name: str) -> Reason:
    """A reason by its name; one that a filter of someone's own gave is taken as what it is, a rejection."""
    return REASONS.get(name) or Reason("rejected", "a filter's own reason", "see that filter")


def render(report: Report) -> str:
    """The page. Everything that came from outside is escaped, and its policy lets no other script run."""
    loader = FileSystemLoader(Path(__file__).parent)
    page = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page.filters["policy_hash"] = _policy_hash
    page.filters["cut"] = lambda text: text if len(text) <= LONGEST_TEXT else text[:LONGEST_TEXT] + " …"
    return page.get_template("report.html.j2").render(report=report, outcomes=OUTCOMES)


def _policy_hash(text: str) -> str:
    """What a Content-Security-Policy names an inline script or style by."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(str(text).encode()).digest()).decode()}'"
