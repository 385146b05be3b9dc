"""What a run shows while it goes."""

from __future__ import annotations

import io
from collections import Counter

from rich.console import Console

from captioner.types import ShardInput
from pipelines.actors import Report
from pipelines.caption_shard import Progress
from pipelines.progress import Gauge, clock, line, panel
from pipelines.recaption import RunState
from shards.plan import Plan


def state(done: int, planned: int) -> RunState:
    plan = Plan(recipe={}, inputs=(ShardInput(shard="a", url="file:///a.tar", size=planned, etag=""),), versions={})
    begun = RunState(plan=plan, bytes_planned=planned, bytes_done=done)
    begun.started -= 10.0
    return begun


def report(**outcomes: int) -> Report:
    open_shard = Progress(shard="b", outcomes=Counter(outcomes), bytes_judged=300)
    return Report(open=(open_shard,), slots=4, busy_seconds=20.0, asked=5, pids=(1,))


def test_a_moment_counts_committed_and_open_shards_together() -> None:
    begun = state(done=200, planned=1000)
    begun.counts.update({"captioned": 7, "read": 7})
    moment = Gauge().moment(begun, [report(captioned=2, filtered=1)])
    assert moment.counts["captioned"] == 9 and moment.counts["read"] == 10
    assert moment.share == 0.5 and 0.9 < moment.rate < 1.1
    assert moment.eta_seconds is not None and 9 < moment.eta_seconds < 11


def test_a_shard_that_was_committed_since_the_report_counts_once() -> None:
    begun = state(done=300, planned=1000)
    begun.counts.update({"captioned": 2})
    begun.committed.add("b")
    moment = Gauge().moment(begun, [report(captioned=2)])
    assert moment.counts["captioned"] == 2 and moment.share == 0.3


def test_samples_from_the_journal_do_not_count_as_speed() -> None:
    begun = state(done=0, planned=1000)
    told = report(captioned=3)
    told.open[0].from_journal, told.open[0].bytes_from_journal = 3, 300
    moment = Gauge().moment(begun, [told])
    assert 0.0 <= moment.rate < 0.01 and moment.share == 0.3
    assert moment.eta_seconds is None, "nothing was captioned yet, and nobody knows how long that takes"


def test_what_an_earlier_start_captioned_promises_no_early_end() -> None:
    begun = state(done=800, planned=1000)
    begun.bytes_from_journal = 700
    moment = Gauge().moment(begun, [])
    assert moment.eta_seconds is not None and 19 < moment.eta_seconds < 21


def test_nothing_is_promised_before_anything_is_known() -> None:
    moment = Gauge().moment(state(done=0, planned=1000), [])
    assert moment.eta_seconds is None and "eta=?" in line(moment)


def test_the_line_and_the_panel_name_every_outcome() -> None:
    moment = Gauge().moment(state(done=10, planned=1000), [report(captioned=2, rejected=1)])
    console = Console(file=io.StringIO(), width=120)
    console.print(panel(moment))
    for text in (line(moment), console.file.getvalue()):  # type: ignore[attr-defined]
        for name in ("captioned", "filtered", "unreadable", "rejected", "failed"):
            assert name in text


def test_a_clock_reads_hours_minutes_seconds() -> None:
    assert [clock(seconds) for seconds in (None, 0, 59.6, 3725)] == ["?", "0:00:00", "0:01:00", "1:02:05"]
