"""A count on its way to its sum: a bar on a terminal, one line each 10 seconds elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

LINE_SECONDS = 10.0
LOOK_SECONDS = 0.1  # however often it is told

Tell = Callable[[int, int], None]


@contextmanager
def bar(console: Console, word: str, things: str) -> Iterator[Tell]:
    """A function to be told (how many are done, of how many). word: what is done; things: what is counted."""
    columns = TextColumn(word), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as shown:
        task = shown.add_task(word, total=None)
        looked = line = time.monotonic()

        def tell(done: int, total: int) -> None:
            nonlocal looked, line
            now = time.monotonic()
            if now - looked < LOOK_SECONDS:
                return
            looked = now
            shown.update(task, completed=done, total=total)
            if not console.is_terminal and now - line >= LINE_SECONDS:
                line = now
                console.print(f"{word}: {done:,} of {total:,} {things}", highlight=False)

        yield tell
