"""`make demo`: pack photographs and clips into shards, recaption them, prove both corpora and show them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from captioner.reasons import REASONS
from pipelines.demo.clips import demo_clips
from pipelines.demo.pictures import demo_samples
from shards import commits, ledger
from shards.pack import pack
from shards.store import Store

MARK = ".made-by-make-demo"
ROOT = Path(__file__).parents[2]
SHARD_SAMPLES = 5


def demo(folder: Path) -> int:
    """The whole demo in a folder of its own; the exit code of the first step that fails, or 0."""
    console = Console() if sys.stdout.isatty() else Console(width=130)
    folder = folder.resolve()
    if folder.exists() and not (folder / MARK).exists():
        console.print(f"{folder} is there and not of this demo: choose another with make demo OUT=…")
        return 2
    shutil.rmtree(folder, ignore_errors=True)
    shards, clips = folder / "shards", folder / "clips"
    samples, videos = demo_samples(), demo_clips()
    names = [*pack(Store(str(shards)), samples, SHARD_SAMPLES), *pack(Store(str(clips)), videos, SHARD_SAMPLES)]
    (folder / MARK).touch()
    told = f"packed {len(samples)} pictures and {len(videos)} clips into {len(names)} shards in {folder}"
    console.print(told, highlight=False)
    for script, given, out in (("datacomp", shards, folder / "out"), ("webvid", clips, folder / "out-clips")):
        run = [sys.executable, str(ROOT / f"pipelines/recap_{script}.py"), "--input", str(given), "--output", str(out)]
        recap = [sys.executable, "-m", "pipelines"]
        for command in (run, [*recap, "verify", str(out)], [*recap, "report", str(out)]):
            console.rule(" ".join(["$", *(Path(word).name if "/" in word else word for word in command)]), align="left")
            code = subprocess.run(command, cwd=ROOT, check=False).returncode
            if code:
                return code
    for what, out in (("picture", folder / "out"), ("clip", folder / "out-clips")):
        show(console, Store(str(out)), what)
        console.print(f"[bold]Open {out}/report.html[/bold] to see every {what} with its captions.", highlight=False)
    return 0


def show(console: Console, store: Store, what: str) -> None:
    """A table of old and new captions, in shard order."""
    table = Table(show_lines=True, title=f"What became of each {what}", title_justify="left")
    for name in ("key", "outcome", "before", "now"):
        table.add_column(name)
    for shard in sorted(commits.committed(store)):
        record = commits.read(store, shard)
        assert record is not None
        name = next(file.name for file in record.files if file.name.endswith(".parquet"))
        for row in ledger.from_parquet(store.read(name)):
            now = row.caption or (f"[dim]{REASONS[row.reason].meaning}[/dim]" if row.reason else "")
            table.add_row(row.key, row.reason or row.outcome, row.original_caption or "", now)
    console.print(table)


if __name__ == "__main__":
    raise SystemExit(demo(Path(sys.argv[1] if len(sys.argv) > 1 else "demo")))
