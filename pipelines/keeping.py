"""`recap gc` and `recap repair`: looking after a run's folder; both only look unless told to act."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from typing import Annotated

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from captioner.errors import Refused
from shards import gc, repair
from shards.gc import Garbage
from shards.store import Store

Folder = Annotated[str, tyro.conf.Positional]
SHOWN = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class GcCommand:
    """What killed attempts left behind: list it, or with --delete remove it. Nothing that a record names, ever."""

    out: Folder
    """The run's folder, a path or URL."""
    delete: bool = False
    """Delete what is listed; without it nothing of the run is."""
    older_than_hours: float = gc.HOURS
    """Leave alone whatever is younger, by the store's own clock. While a run goes on, no less than a shard takes: what
    an attempt has written is in no record before it commits."""

    def run(self, console: Console) -> int:
        """Print the table, and delete if asked. Exit code 0; 4 when a damaged record hides what it names."""
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
        if not self.older_than_hours >= 0:
            raise Refused(f"--older-than-hours {self.older_than_hours}: 0 or more would be right")
        store = Store(self.out)
        found = gc.garbage(store, self.older_than_hours)
        _show_garbage(console, found)
        if self.delete:
            console.print(f"deleted {len(gc.collect(store, found))} objects")
        elif found:
            console.print("nothing was deleted: --delete does it")
        return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairCommand:
    """Name damaged records and manifests; with --requeue move one aside, so that the run command does it again.

    A shard can be requeued too where its input could not be read, or where captions of its samples were rejected or
    failed: all of its captions are made anew.
    """

    out: Folder
    """The run's folder, a path or URL."""
    requeue: tuple[str, ...] = ()
    """Shards, or files as this command prints them, to move to OUT/damaged/. What is sound and whole never moves."""

    def run(self, console: Console) -> int:
        """Print what is damaged. Exit code 0 when nothing is (left), 4 when something is."""
        store = Store(self.out)
        for what in self.requeue:
            moved = repair.requeue(store, what)
            told(console, f"moved {what} to {moved}; the same run command goes on")
        found = repair.damage(store)
        for each in found:
            told(console, f"[red]damaged[/red] {escape(each.name)}: {escape(each.detail)}", markup=True)
        if not found:
            console.print("no record and no manifest is damaged; `recap verify` also reads the data files")
        return 4 if found else 0


def told(console: Console, line: str, *, markup: bool = False) -> None:
    """Print one line as one line: paths in it stay whole wherever it goes, and brackets in them mean nothing."""
    console.print(line, highlight=False, soft_wrap=True, markup=markup)


def _show_garbage(console: Console, found: list[Garbage]) -> None:
    if not found:
        console.print("no garbage")
        return
    size = sum(each.bytes for each in found)
    table = Table(title=f"garbage: {len(found):,} objects, {size / 1e6:,.1f} MB", title_justify="left")
    table.add_column("object", overflow="fold")
    table.add_column("bytes", justify="right")
    table.add_column("hours", justify="right")
    table.add_column("why")
    for each in found[:SHOWN]:
        table.add_row(escape(each.name), f"{each.bytes:,}", f"{each.age_seconds / 3600:,.1f}", each.why)
    if len(found) > SHOWN:
        table.add_row(f"… and {len(found) - SHOWN:,} more", "", "", "")
    console.print(table)
