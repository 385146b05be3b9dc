"""The report's plots as geometry: where bars, dots and ticks stand; the template only draws them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from captioner.reasons import OUTCOMES

WIDTH, PANEL, LEFT, RIGHT, GAP = 560.0, 78.0, 12.0, 12.0, 40.0
SCATTER_LEFT, SCATTER_TOP, SCATTER_WIDTH, SCATTER_HEIGHT = 48.0, 10.0, 500.0, 380.0
BINS = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A mark on an axis: its place in plot units and what stands beside it."""

    at: float
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One rectangle; label: what a reader learns who points at it."""

    x: float
    y: float
    width: float
    height: float
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """An outcome's part of a whole bar: x and width as percent of it."""

    outcome: str
    count: int
    x: float
    width: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One distribution of a histogram. baseline: the y its bars stand on; median: its x."""

    name: str
    bars: tuple[Bar, ...]
    baseline: float
    median: Tick
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Distributions over one axis, one above the other, on one scale of shares."""

    title: str
    unit: str
    panels: tuple[Panel, ...]
    ticks: tuple[Tick, ...]
    height: float
    summary: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    """One picture's size in a scatter."""

    x: float
    y: float
    outcome: str
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scatter:
    """Widths against heights, both on the same logarithmic scale, so that the diagonal is square."""

    dots: tuple[Dot, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    outcomes: tuple[str, ...]
    summary: str


def shares(counts: Mapping[str, int]) -> tuple[Share, ...]:
    """The outcomes that occur as parts of one bar of 100 percent, in their usual order."""
    total = sum(counts.get(name, 0) for name in OUTCOMES) or 1
    parts, x = [], 0.0
    for name in OUTCOMES:
        width = 100 * counts.get(name, 0) / total
        if width:
            parts.append(Share(outcome=name, count=counts[name], x=round(x, 3), width=round(width, 3)))
        x += width
    return tuple(parts)


def quantile(counts: Counter[float], share: float) -> float:
    """The least value that `share` of all values do not exceed. Raises ValueError where there is none."""
    if not counts:
        raise ValueError("no values, so no quantile")
    wanted, seen = share * counts.total(), 0
    for value in sorted(counts):
        seen += counts[value]
        if seen >= wanted:
            return value
    return max(counts)


def nice_step(span: float, steps: int) -> float:
    """The least of 1, 2 or 5 times a power of ten that covers the span in at most so many steps."""
    raw = span / steps
    power = 10.0 ** math.floor(math.log10(raw))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)


def histogram(title: str, unit: str, series: Mapping[str, Counter[float]], least_step: float) -> Histogram | None:
    """One panel a series that has values, None when none has; what lies beyond the 99th percentile joins the last bar.

    unit: of the axis. least_step: the narrowest bar that makes sense, 1 for whole numbers.
    """
    full = {name: counts for name, counts in series.items() if counts}
    if not full:
        return None
    top = max(quantile(counts, 0.99) for counts in full.values())
    step = max(least_step, nice_step(max(top, least_step), BINS))
    axis = _Axis(step=step, bins=math.floor(top / step + 1e-9) + 1, unit=unit, whole=least_step == 1)
    binned = {name: axis.binned(counts) for name, counts in full.items()}
    peak = max(count / bins.total() for bins in binned.values() for count in bins.values())
    panels = tuple(
        axis.panel(name, full[name], binned[name], peak, (PANEL + GAP) * number) for number, name in enumerate(full)
    )
    return Histogram(
        title=title,
        unit=unit,
        panels=panels,
        ticks=axis.ticks(),
        height=(PANEL + GAP) * len(full),
        summary="; ".join(f"{panel.name}: median {panel.median.label} {unit} of {panel.count:,}" for panel in panels),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Axis:
    step: float
    bins: int
    unit: str
    whole: bool

    @property
    def inset(self) -> float:
        """Where in a bar its first value stands: in the middle of a bar of one whole number, else at its left."""
        return self.scale / 2 if self.whole and self.step == 1 else 0.0

    @property
    def scale(self) -> float:
        return (WIDTH - LEFT - RIGHT) / self.bins

    def x(self, value: float) -> float:
        return LEFT + self.scale * min(value / self.step, self.bins)

    def binned(self, counts: Counter[float]) -> Counter[int]:
        found: Counter[int] = Counter()
        for value, count in counts.items():
            found[min(math.floor(value / self.step + 1e-9), self.bins - 1)] += count
        return found

    def panel(self, name: str, counts: Counter[float], binned: Counter[int], peak: float, top: float) -> Panel:
        baseline = top + GAP + PANEL
        bars = []
        for number, count in sorted(binned.items()):
            height = max(1.5, PANEL * count / binned.total() / peak)
            x, width = self.x(number * self.step), max(1.0, self.scale - 1.5)
            label = f"{self.range_of(number)} {self.unit}: {count:,}"
            bars.append(Bar(x=round(x, 2), y=round(baseline - height, 2), width=width, height=height, label=label))
        middle = quantile(counts, 0.5)
        median = Tick(at=round(min(self.x(middle) + self.inset, WIDTH - RIGHT), 2), label=f"{middle:g}")
        return Panel(name=name, bars=tuple(bars), baseline=baseline, median=median, count=counts.total())

    def range_of(self, number: int) -> str:
        low, high = number * self.step, (number + 1) * self.step
        if number == self.bins - 1:
            return f"{low:g} and more"
        if self.inset:
            return f"{low:g}"
        return f"{low:g} to {high - 1 if self.whole else high:g}"

    def ticks(self) -> tuple[Tick, ...]:
        every = max(1, math.ceil(self.bins / 8))
        at = range(0, self.bins, every)
        return tuple(Tick(at=round(self.x(n * self.step) + self.inset, 2), label=f"{n * self.step:g}") for n in at)


def scatter(sizes: Sequence[tuple[int, int, str]]) -> Scatter | None:
    """A dot for each (width px, height px, outcome), None without any."""
    if not sizes:
        return None
    sides = [max(side, 1) for width, height, _ in sizes for side in (width, height)]
    low, high = math.log10(min(sides) * 0.85), math.log10(max(sides) * 1.18)

    def x(side: int) -> float:
        return round(SCATTER_LEFT + SCATTER_WIDTH * (math.log10(max(side, 1)) - low) / (high - low), 2)

    def y(side: int) -> float:
        return round(SCATTER_TOP + SCATTER_HEIGHT * (high - math.log10(max(side, 1))) / (high - low), 2)

    marks = [factor * 10**power for power in range(10) for factor in (1, 2, 5)]
    inside = [side for side in marks if low <= math.log10(side) <= high]
    shown = inside[:: max(1, math.ceil(len(inside) / 7))]
    larger = sum(min(width, height) > 512 for width, height, _ in sizes)
    return Scatter(
        dots=tuple(Dot(x=x(w), y=y(h), outcome=name, label=f"{w:,} × {h:,} px, {name}") for w, h, name in sizes),
        x_ticks=tuple(Tick(at=x(side), label=f"{side:,}") for side in shown),
        y_ticks=tuple(Tick(at=y(side), label=f"{side:,}") for side in shown),
        outcomes=tuple(name for name in OUTCOMES if any(name == outcome for _, _, outcome in sizes)),
        summary=f"{larger:,} of {len(sizes):,} are larger than 512 × 512 px",
    )
