"""What a run shows while it goes: a live bar on a terminal, one line each 10 seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from captioner.engines.pool import ReplicaStats
from captioner.reasons import OUTCOMES
from pipelines.actors import Report
from pipelines.recaption import RunState, Show
from pipelines.replicas import together

LINE_SECONDS = 10.0
BAR_CELLS = 30
SHOWN_ENGINES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """One replica, all workers' pools together. Rates are of the last second or more.

    slots: that it seems to have. window: requests that may be there at once. idle: seconds that slots stood empty, by
    cause, since the start.
    """

    name: str
    state: str
    outstanding: int
    window: int
    slots: int
    tokens_rate: float
    images_rate: float
    idle: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A run at one moment. rate: samples a second since the start; eta_seconds: None while unknown; use: 0 to 1."""

    shards_done: int
    shards: int
    counts: dict[str, int]
    share: float
    rate: float
    eta_seconds: float | None
    use: float
    elapsed: float
    engines: tuple[Served, ...] = ()


@dataclass(slots=True)
class Gauge:
    """Turns the workers' reports into moments; engine use and rates are measured between two of them."""

    _at: float = field(default_factory=time.monotonic)
    _busy: float = 0.0
    _use: float = 0.0
    _engines: tuple[Served, ...] = ()
    _told: dict[str, tuple[int, int]] = field(default_factory=dict)

    def moment(self, state: RunState, reports: list[Report]) -> Moment:
        """How things stand now."""
        counts, done = Counter(state.counts), state.bytes_done
        known, known_bytes = state.from_journal, state.bytes_from_journal  # they took no time of this start
        # A report is half a second old: a shard in it may be booked as committed by now.
        for progress in (each for report in reports for each in report.open if each.shard not in state.committed):
            counts.update(progress.outcomes)
            done += progress.bytes_judged
            known, known_bytes = known + progress.from_journal, known_bytes + progress.bytes_from_journal
        counts["read"] = sum(counts[name] for name in OUTCOMES)
        elapsed = time.monotonic() - state.started
        share = min(1.0, done / max(1, state.bytes_planned))
        fresh, left = done - known_bytes, max(0, state.bytes_planned - done)
        eta = elapsed * left / fresh if fresh > 0.01 * (fresh + left) else None
        self._measure(reports)
        return Moment(
            shards_done=state.committed_before + len(state.committed),
            shards=len(state.plan.inputs),
            counts=dict(counts),
            share=share,
            rate=(counts["read"] - known) / max(elapsed, 0.001),
            eta_seconds=eta,
            use=self._use,
            elapsed=elapsed,
            engines=self._engines,
        )

    def _measure(self, reports: list[Report]) -> None:
        busy, slots = sum(r.busy_seconds for r in reports), sum(r.slots for r in reports)
        now = time.monotonic()
        if slots and now - self._at >= 1.0:
            self._use = min(1.0, max(0.0, (busy - self._busy) / (slots * (now - self._at))))
            pools = [report.pool for report in reports if report.pool is not None]
            self._engines = tuple(self._served(each, now - self._at) for each in together(pools))
            self._at, self._busy = now, busy

    def _served(self, replica: ReplicaStats, seconds: float) -> Served:
        tokens, images = self._told.get(replica.name, (replica.tokens_out, replica.images))
        self._told[replica.name] = replica.tokens_out, replica.images
        return Served(
            name=replica.name,
            state=replica.state,
            outstanding=replica.outstanding,
            window=replica.window,
            slots=replica.slots or replica.window,
            tokens_rate=max(0, replica.tokens_out - tokens) / seconds,
            images_rate=max(0, replica.images - images) / seconds,
            idle=dict(replica.idle_seconds),
        )


def line(moment: Moment) -> str:
    """One line for a log."""
    outcomes = " ".join(f"{name}={moment.counts.get(name, 0)}" for name in OUTCOMES)
    engines = f" {_engines_line(moment.engines)}" if moment.engines else ""
    return (
        f"shards={moment.shards_done}/{moment.shards} samples={moment.counts['read']} {outcomes} "
        f"rate={moment.rate:.1f}/s engine_use={moment.use:.0%} eta={clock(moment.eta_seconds)}{engines}"
    )


def _engines_line(engines: tuple[Served, ...]) -> str:
    idle: Counter[str] = Counter()
    for each in engines:
        idle.update(each.idle)
    causes = "".join(f" idle_{cause}={seconds:.0f}s" for cause, seconds in sorted(idle.items()) if seconds >= 1)
    serving = sum(each.state in ("serving", "suspect") for each in engines)
    return (
        f"replicas={serving}/{len(engines)} outstanding={sum(e.outstanding for e in engines)} "
        f"window={sum(e.window for e in engines)} tokens={sum(e.tokens_rate for e in engines):.0f}/s "
        f"images={sum(e.images_rate for e in engines):.1f}/s{causes}"
    )


def clock(seconds: float | None) -> str:
    """Seconds as h:mm:ss, `?` when unknown."""
    if seconds is None:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def panel(moment: Moment) -> Table:
    """The live display: a bar with rate, ETA and engine use, and the outcomes under it."""
    filled = round(BAR_CELLS * moment.share)
    bar = f"[green]{'━' * filled}[/green][dim]{'━' * (BAR_CELLS - filled)}[/dim]"
    grid = Table.grid(padding=(0, 1))
    grid.add_row(
        f"{bar} {moment.share:4.0%}",
        f"shards {moment.shards_done}/{moment.shards}",
        f"[bold]{moment.rate:.1f}[/bold] samples/s",
        f"ETA {clock(moment.eta_seconds)}",
        f"engine {moment.use:.0%} busy",
    )
    colours = {"captioned": "green", "filtered": "cyan", "unreadable": "yellow", "rejected": "magenta", "failed": "red"}
    shown = [f"[{colours[name]}]{name} {moment.counts.get(name, 0)}[/]" for name in OUTCOMES]
    whole = Table.grid()
    whole.add_row(grid)
    whole.add_row("  ".join(shown))
    if moment.engines:
        whole.add_row(_engines_table(moment.engines))
    return whole


def _engines_table(engines: tuple[Served, ...]) -> Table:
    """A line a replica, the first of many; the log line has the sums."""
    table = Table(box=None, padding=(0, 2), header_style="dim")
    for name in ("replica", "state", "at it", "window", "tokens/s", "images/s", "idle s"):
        table.add_column(name, justify="left" if name in ("replica", "state", "idle s") else "right")
    for each in engines[:SHOWN_ENGINES]:
        idle = ", ".join(f"{cause} {seconds:.0f}" for cause, seconds in sorted(each.idle.items()) if seconds >= 1)
        rates = f"{each.tokens_rate:.0f}", f"{each.images_rate:.1f}"
        table.add_row(escape(each.name), each.state, str(each.outstanding), str(each.window), *rates, idle)
    if len(engines) > SHOWN_ENGINES:
        table.add_row(f"and {len(engines) - SHOWN_ENGINES} more", "", "", "", "", "", "")
    return table


@contextmanager
def progress(console: Console) -> Iterator[Show]:
    """A Show for recaption(): live on a terminal, else one line now and then."""
    gauge = Gauge()
    if console.is_terminal:
        with Live(console=console, refresh_per_second=4, transient=False) as live:
            yield lambda state, reports: live.update(panel(gauge.moment(state, reports)))
        return
    last = time.monotonic()

    def show(state: RunState, reports: list[Report]) -> None:
        nonlocal last
        moment = gauge.moment(state, reports)
        if time.monotonic() - last >= LINE_SECONDS:
            last = time.monotonic()
            print(line(moment), file=sys.stderr, flush=True)

    yield show
