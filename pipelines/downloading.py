"""`recap download`: a list of URLs becomes tars that recap_datacomp.py and recap_laion.py read."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import threading
from dataclasses import dataclass, field
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.table import Table

from captioner.errors import Refused
from pipelines.bar import bar
from pipelines.urls import environment
from pipelines.urls.fetching import Ended, Fetching, Room, asked_to_stop, room, watch
from shards import downloads
from shards.downloads import Account, Fates, Round, Wanted
from shards.failures import FAILURES
from shards.store import Store
from shards.tar import MAX_MEMBER_BYTES
from shards.url_list import columns_of, digest, list_files, prepare, tables

SILENT_SECONDS = 10.0  # a server may say nothing for so long within --timeout; img2dataset's own default
UNWRITTEN_ROWS = 100  # img2dataset's writer holds so many before any of them is a byte on disk
EXIT_CODES: dict[Ended, int] = {"stopped": 1, "stalled": 3, "broke": 3}
List = Annotated[str, tyro.conf.Positional]


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadCommand:
    """Fetch the pictures of a list of URLs into tars, by img2dataset; every row of the list is accounted for.

    The same command goes on where a stopped or killed one was. Stored bytes are those that the server sent: nothing is
    resized, encoded again or even opened. All other columns of the list stand in the JSON beside each picture.
    """

    list: List
    """The list: a file that ends in parquet, csv, tsv, jsonl, json or txt (one URL a line), also with .gz, or a folder
    of such; a path or URL."""
    to: str
    """Where to, a path or URL: a folder of its own."""
    url_column: str | None = None
    """The column with the URLs. Default: url or URL."""
    caption_column: str | None = None
    """The column with the captions. Default: caption, TEXT, text or alt, where there is one."""
    verify_sha256: bool = False
    """Take only pictures whose sha256 is that of the list's column sha256: what changed since fails."""
    samples_a_shard: int = 10_000
    """Rows of the list that one tar is made of."""
    max_bytes: int = MAX_MEMBER_BYTES
    """Of one picture; what is larger fails."""
    user_agent_token: str = "recap"
    """Names you to servers, and in their X-Robots-Tag headers, whose noai and noindex are always obeyed."""
    processes: int = field(default_factory=lambda: min(16, os.cpu_count() or 1))
    """Processes of img2dataset, each with one shard in hand. Default: the machine's cores, at most 16."""
    threads: int = 64
    """Requests that one process has under way at once."""
    timeout: float = 30.0
    """Seconds for one URL's whole answer; at most 10 of them without a byte."""
    stalled_minutes: float = 10.0
    """End the run where nothing moved for so long, or for as long as 100 time-outs take one process."""
    again: bool = False
    """Once all is tried, try those rows once more that failed for a reason that passes, as further shards."""
    scratch: str | None = None
    """A folder on a local disk for shards in the making and the list once more. Default: the system's temporary one."""
    img2dataset_python: str | None = None
    """The Python of an environment that has img2dataset 1.47.0. Default: the one that --install makes."""
    install: bool = False
    """Make that environment first, by venv and pip (800 MB): ~/.cache/recap/img2dataset-1.47.0."""
    json: bool = False
    """Print one JSON object instead of a table."""

    def run(self, console: Console) -> int:
        """Download, and print what became of the rows. 0 all downloaded; 1 some failed, or it was stopped; 2 refused;
        3 it stalled or broke; 4 rows are missing."""
        self._refuse_settings()
        python = environment.interpreter(self.img2dataset_python, self.install)
        to = Store(self.to)
        with asked_to_stop() as stop, room(to.url, self.scratch) as where:
            ended, fates, words = _Download(self, python, to, where, stop).whole()
        account = fates.account()
        code = 4 if account.exit_code == 4 else EXIT_CODES.get(ended, account.exit_code)
        if self.json:
            print(json.dumps(dataclasses.asdict(account) | {"ended": ended, "exit_code": code}))
        else:
            _show(console, account, self.to)
        for line in words:
            Console(stderr=True).print(line, highlight=False, markup=False, soft_wrap=True)
        return code

    @property
    def stalled_seconds(self) -> float:
        """How long nothing may move: a shard whose URLs all time out writes nothing before its hundredth row."""
        return max(60 * self.stalled_minutes, math.ceil(UNWRITTEN_ROWS / self.threads) * self.timeout)

    def _refuse_settings(self) -> None:
        for name in ("samples_a_shard", "max_bytes", "processes", "threads", "timeout", "stalled_minutes"):
            if not getattr(self, name) > 0:
                raise Refused(f"--{name.replace('_', '-')} {getattr(self, name)}: more than 0 would be right")
        if self.max_bytes > MAX_MEMBER_BYTES:
            raise Refused(
                f"--max-bytes {self.max_bytes}: at most {MAX_MEMBER_BYTES}, for runs pass over larger pictures"
            )
        if not self.user_agent_token.strip():
            raise Refused("--user-agent-token: a word that names you would be right")


@dataclass(frozen=True, slots=True)
class _Download:
    """One command's work: the list taken, rounds run, rows counted."""

    asked: DownloadCommand
    python: str
    to: Store
    room: Room
    stop: threading.Event

    def whole(self) -> tuple[Ended, Fates, list[str]]:
        """How it ended, what became of the rows, and what to say of it."""
        all_rounds = self._begun()
        downloads.clear_cut(self.to)
        was_cut = len(all_rounds) > 1 and bool(self._left(all_rounds))  # a round of --again: finishing it is this one
        ended, words = self._fetched(all_rounds)
        fates = self._fates(all_rounds)
        if self.asked.again and ended == "complete" and not was_cut and (again := fates.worth_another_try()).any():
            rows = downloads.rows_again(self.to, all_rounds[0], again)
            all_rounds.append(downloads.new_round(self.to, len(all_rounds) + 1, rows, self.asked.samples_a_shard))
            ended, words = self._fetched(all_rounds)
            fates = self._fates(all_rounds)
        return ended, fates, words + _advice(ended, fates.account(), self.asked)

    def _begun(self) -> list[Round]:
        """The list as this folder has taken it, now or before. Raises Refused, PlanMismatch."""
        files, asked = list_files(self.asked.list), self.asked
        names = next((table.column_names for url in files for table in tables(url) if table.num_rows), None)
        if names is None:
            raise Refused(f"{asked.list} has no rows")
        columns = columns_of(names, asked.url_column, asked.caption_column, asked.verify_sha256)
        plan = {
            "list": [{"name": url.rpartition("/")[2], "sha256": digest(url)} for url in files],
            "columns": dataclasses.asdict(columns),
            "samples_a_shard": asked.samples_a_shard,
            "max_bytes": asked.max_bytes,
            "user_agent_token": asked.user_agent_token,
            "img2dataset": environment.VERSION,
        }
        downloads.begin(self.to, plan)
        all_rounds = downloads.rounds(self.to)
        try:
            return all_rounds or [downloads.new_round(self.to, 1, prepare(files, columns), asked.samples_a_shard)]
        except Refused:  # found out in the middle of the list: the mended one shall not be refused as another
            downloads.forget(self.to)
            raise

    def _left(self, all_rounds: list[Round]) -> dict[int, Wanted]:
        """The shards that are not whole yet."""
        done = downloads.whole(self.to)
        wanted = downloads.wanted(all_rounds, self.asked.samples_a_shard)
        return {each.shard: each for each in wanted if each.shard not in done}

    def _fates(self, all_rounds: list[Round]) -> Fates:
        return downloads.fates(self.to, all_rounds, downloads.wanted(all_rounds, self.asked.samples_a_shard))

    def _fetched(self, all_rounds: list[Round]) -> tuple[Ended, list[str]]:
        """Run img2dataset over what is not whole yet."""
        left = self._left(all_rounds)
        if not left:
            return "complete", []
        where = self.room.emptied()
        names = downloads.fetch_lists(self.to, all_rounds, where.lists)
        for shard in downloads.whole(self.to):  # by these names it knows what it need not do
            (where.made / f"{shard:05d}{downloads.STATS}").write_text("{}")
        rows, done = sum(each.rows for each in left.values()), 0
        with (
            bar(Console(stderr=True), "download", "rows in whole shards") as tell,
            Fetching(self.python, self._order(names, len(left)), where) as fetching,
        ):

            def take() -> bool:
                nonlocal done
                for shard in sorted(where.stats(downloads.STATS) & left.keys()):
                    if downloads.publish(self.to, where.made, where.lists, left[shard]):
                        done += left.pop(shard).rows
                tell(done, rows)
                return not left

            ended = watch(fetching, where, take, self.stop, self.asked.stalled_seconds)
        if ended in ("broke", "stalled"):
            return ended, [f"its log {where.log} ends:\n{fetching.tail()}"]
        where.log.unlink(missing_ok=True)
        return ended, []

    def _order(self, columns: list[str], shards: int) -> dict[str, Any]:
        """What fetch.py is told. What is not named here is as img2dataset has it: above all, it obeys opt-outs."""
        asked = self.asked
        verified = "sha256" in columns
        return {
            "url_seconds": asked.timeout,
            "max_bytes": asked.max_bytes,
            "img2dataset": {
                "url_list": str(self.room.lists),
                "output_folder": str(self.room.made),
                "input_format": "parquet",
                "output_format": "webdataset",
                "url_col": "url",
                "caption_col": "caption" if "caption" in columns else None,
                "verify_hash": ["sha256", "sha256"] if verified else None,
                "save_additional_columns": [name for name in columns if name not in ("url", "caption", "sha256")],
                "disable_all_reencoding": True,  # the bytes are stored as they came, and no decoder sees them here
                "extract_exif": False,
                "compute_hash": "sha256",
                "number_sample_per_shard": asked.samples_a_shard,
                "processes_count": min(asked.processes, shards),
                "thread_count": asked.threads,
                "timeout": min(asked.timeout, SILENT_SECONDS),
                "user_agent_token": asked.user_agent_token,
                "enable_wandb": False,
            },
        }


def _advice(ended: Ended, account: Account, asked: DownloadCommand) -> list[str]:
    """What to do next, a line each."""
    said = {
        "stopped": "stopped: the same command goes on",
        "stalled": f"stalled: nothing moved for {asked.stalled_seconds / 60:g} minutes; the same command goes on",
        "broke": "img2dataset ended before its shards were done; the same command goes on",
    }
    lines = [said[ended]] if ended in said else []
    if account.missing:
        shown = ", ".join(map(str, account.missing_rows))
        lines.append(f"missing: {account.missing:,} rows, of the list's rows {shown or '?'}; --again tries them")
    if account.doubled:
        lines.append(f"doubled: {account.doubled:,} rows were downloaded more than once")
    passing = sum(count for name, count in account.failed.items() if FAILURES[name].passes)
    if passing and ended == "complete":
        lines.append(f"{passing:,} rows failed for reasons that pass: --again tries them once more")
    return lines


def _show(console: Console, account: Account, to: str) -> None:
    console.print(f"{account.listed:,} rows listed", highlight=False)
    table = Table()
    table.add_column("rows", justify="right")
    table.add_column("became of them")
    table.add_row(f"{account.downloaded:,}", f"[green]downloaded[/green]: {account.bytes / 1e6:,.1f} MB of pictures")
    for name, count in account.failed.items():
        passes = " [dim](passes)[/dim]" if FAILURES[name].passes else ""
        table.add_row(f"{count:,}", f"failed, {name}: {FAILURES[name].meaning}{passes}")
    for name, count in (("not tried yet", account.left), ("[red]missing[/red]", account.missing)):
        if count:
            table.add_row(f"{count:,}", name)
    console.print(table)
    console.print(f"download: {account.shards:,} tars in {to}", highlight=False, markup=False)
