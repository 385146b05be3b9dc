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
from rich.table import Table

from captioner.reasons import OUTCOMES
from pipelines.actors import Report
from pipelines.recaption import RunState, Show

LINE_SECONDS = 10.0
BAR_CELLS = 30


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


@dataclass(slots=True)
class Gauge:
    """Turns the workers' reports into moments; engine use is measured between two of them."""

    _at: float = field(default_factory=time.monotonic)
    _busy: float = 0.0
    _use: float = 0.0

    def moment(self, state: RunState, reports: list[Report]) -> Moment:
        """How things stand now."""
        counts, done = Counter(state.counts), state.bytes_done
        # A report is half a second old: a shard in it may be booked as committed by now.
        for progress in (each for report in reports for each in report.open if each.shard not in state.committed):
            counts.update(progress.outcomes)
            done += progress.bytes_judged
        counts["read"] = sum(counts[name] for name in OUTCOMES)
        elapsed = time.monotonic() - state.started
        share = min(1.0, done / max(1, state.bytes_planned))
        eta = elapsed * (1 - share) / share if share > 0.01 else None
        return Moment(
            shards_done=state.committed_before + len(state.committed),
            shards=len(state.plan.inputs),
            counts=dict(counts),
            share=share,
            rate=(counts["read"] - state.from_journal) / max(elapsed, 0.001),
            eta_seconds=eta,
            use=self._used(reports),
            elapsed=elapsed,
        )

    def _used(self, reports: list[Report]) -> float:
        busy, slots = sum(r.busy_seconds for r in reports), sum(r.slots for r in reports)
        now = time.monotonic()
        if slots and now - self._at >= 1.0:
            self._use = min(1.0, max(0.0, (busy - self._busy) / (slots * (now - self._at))))
            self._at, self._busy = now, busy
        return self._use


def line(moment: Moment) -> str:
    """One line for a log."""
    outcomes = " ".join(f"{name}={moment.counts.get(name, 0)}" for name in OUTCOMES)
    return (
        f"shards={moment.shards_done}/{moment.shards} samples={moment.counts['read']} {outcomes} "
        f"rate={moment.rate:.1f}/s engine_use={moment.use:.0%} eta={clock(moment.eta_seconds)}"
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
    return whole


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
