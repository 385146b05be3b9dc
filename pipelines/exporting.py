"""`recap export`: a corpus in the form that another trainer or tool reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from pipelines.bar import bar
from pipelines.keeping import told
from shards.export import Account, Order, export
from shards.formats import FORMATS
from shards.outgoing import LEFT_OUT, Choice

Folder = Annotated[str, tyro.conf.Positional]
Format = Annotated[str, tyro.conf.arg(metavar="{" + ",".join(FORMATS) + "}")]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportCommand:
    """Write a corpus in another program's form; every captioned sample goes out or is left out for a reason.

    What is killed goes on by the same command. Formats: eve-json and eve-index are what EVEv2's trainer loads, with its
    lists of lengths; llava-json and llava-parquet the LLaVA family's; webdataset tars of equal numbers of samples;
    recap-parquet has Recap-DataComp-1B's columns, densefusion-jsonl DenseFusion-1M's lines; csv is for people.
    """

    out: Folder
    """The run's folder, a path or URL."""
    format: Format
    """The form."""
    to: str
    """Where to, a path or URL: a folder of its own."""
    version: int | None = None
    """The corpus's version, a number of OUT/manifests. Default: the newest."""
    share: float = 1.0
    """A share of all, drawn by the pictures' sha256: equal everywhere, and a smaller one is part of a larger one."""
    unique: bool = False
    """Of equal pictures only the first one goes: the same placeholder may stand at a million URLs."""
    max_aspect: float = 5.0
    """Leave out what is longer than so many times its short side; 0 for nothing."""
    upright: bool = True
    """Set turned pictures upright, as few loaders do that, by encoding them anew; the others go as they are stored."""
    question: str | None = None
    """What the human asks, where the form has conversations. Default: Please describe this image in detail."""
    samples_a_file: int | None = None
    """Of a tar or Parquet file. Default: 10,000; 1,000,000 of recap-parquet."""

    def run(self, console: Console) -> int:
        """Write it, and print what became of the samples. Exit code 0."""
        given = {"question": self.question, "samples_a_file": self.samples_a_file}
        order = Order(
            corpus=self.out,
            to=self.to,
            format=self.format,
            settings={name: value for name, value in given.items() if value is not None},
            choice=Choice(share=self.share, unique=self.unique, max_aspect=self.max_aspect),
            version=self.version,
            upright=self.upright,
        )
        with bar(console, "export", "samples") as tell:
            account = export(order, lambda so_far: tell(so_far.looked_at, so_far.captioned))
        _show(console, account, self.to)
        return 0


def _show(console: Console, account: Account, to: str) -> None:
    console.print(f"{account.captioned:,} captioned samples, version {account.manifest}", highlight=False)
    table = Table()
    table.add_column("samples", justify="right")
    table.add_column("became of them")
    table.add_row(f"{account.exported:,}", "[green]exported[/green]")
    for why, count in sorted(account.left_out.items()):
        table.add_row(f"{count:,}", f"left out: {LEFT_OUT[why]}")
    console.print(table)
    told(console, f"export: {to}")
