"""Tables: one row a sample, as Parquet, JSON lines or CSV; the pictures stay where they are but for DenseFusion's."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from shards.outgoing import Outgoing, with_media
from shards.store import Store

GROUP_ROWS, GROUP_BYTES = 1000, 64 * 2**20  # of a row group, whichever is reached first: what is held of it
COLUMNS = ("key", "caption", "original_caption", "url", "sha256", "width", "height", "duration", "words", "engine",
           "model", "model_revision", "prompt_id", "source_shard")  # fmt: skip
FORMULAS = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet runs what begins so
RECAP = pa.schema(
    [
        ("url", pa.string()),
        ("re_caption", pa.string()),
        ("org_caption", pa.string()),
        ("sha256", pa.string()),
        ("key", pa.string()),
        ("re_length", pa.int64()),
        ("org_length", pa.int64()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("model", pa.string()),
        ("model_revision", pa.string()),
        ("prompt_id", pa.string()),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """Parquet files of a schema, by number. What is there already is not made again."""

    to: Store
    schema: pa.Schema
    prefix: str

    def write(self, number: int, rows: Iterable[dict[str, Any]]) -> None:
        """One file."""
        name = f"{self.prefix}{number:06d}.parquet"
        if name in self.to.names(name):
            return
        with self.to.building(name) as building:
            with pq.ParquetWriter(building.file, self.schema, compression="zstd", write_page_checksum=True) as writer:
                for group in _groups(rows):
                    writer.write_table(pa.Table.from_pylist(group, self.schema))
            building.publish()


def _groups(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    group: list[dict[str, Any]] = []
    held = 0
    for row in rows:
        group.append(row)
        held += len(row.get("image") or b"")
        if len(group) == GROUP_ROWS or held >= GROUP_BYTES:
            yield group
            group, held = [], 0
    if group:
        yield group


@dataclass(frozen=True, slots=True, kw_only=True)
class RecapParquet:
    """Recap-DataComp-1B's columns, `url, re_caption, org_caption, sha256, key, re_length, org_length`, and who wrote
    the caption; img2dataset downloads by it with `--caption_col re_caption`."""

    clips: ClassVar[bool] = True
    version: ClassVar[int] = 1
    samples_a_file: int = 1_000_000
    """Rows of a file."""

    def write(self, samples: Iterator[Outgoing], to: Store) -> None:
        """As Format."""
        tables = Tables(to=to, schema=RECAP, prefix="data/")
        for number, some in enumerate(_files_of(samples, self.samples_a_file)):
            tables.write(number, map(_recap, some))


def _files_of(samples: Iterator[Outgoing], most: int) -> Iterator[Iterator[Outgoing]]:
    """Runs of so many that are not held: a row of a table is small, and a file of them is not."""
    for first in samples:
        run = _counted(first, samples, most)
        yield run
        for _ in run:  # what a file that is there already has left
            pass


def _counted(first: Outgoing, rest: Iterator[Outgoing], most: int) -> Iterator[Outgoing]:
    yield first
    for _ in range(most - 1):
        following = next(rest, None)
        if following is None:
            return
        yield following


def _recap(sample: Outgoing) -> dict[str, Any]:
    row = sample.row
    return {
        "url": row.url,
        "re_caption": sample.caption,
        "org_caption": row.original_caption,
        "sha256": row.sha256,
        "key": row.key,
        "re_length": len(sample.caption.split()),
        "org_length": None if row.original_caption is None else len(row.original_caption.split()),
        "width": row.width,
        "height": row.height,
        "model": row.model,
        "model_revision": row.model_revision,
        "prompt_id": row.prompt_id,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseFusionJsonl:
    """DenseFusion-1M's lines, `{image_id, image_path, caption, url}`, in `densefusion.jsonl`, beside the pictures."""

    clips: ClassVar[bool] = False
    version: ClassVar[int] = 1

    def write(self, samples: Iterator[Outgoing], to: Store) -> None:
        """As Format."""
        with to.building("densefusion.jsonl") as building:
            for each in with_media(samples, to):
                told = {"image_id": each.name, "image_path": each.path, "caption": each.caption, "url": each.row.url}
                building.file.write(json.dumps(told, ensure_ascii=False).encode() + b"\n")
            building.publish()


@dataclass(frozen=True, slots=True, kw_only=True)
class Csv:
    """One table for people, `captions.csv`. A cell that a spreadsheet would run has an apostrophe before it."""

    clips: ClassVar[bool] = True
    version: ClassVar[int] = 1

    def write(self, samples: Iterator[Outgoing], to: Store) -> None:
        """As Format."""
        with to.building("captions.csv") as building:
            text = io.TextIOWrapper(building.file, encoding="utf-8", newline="", write_through=True)
            table = csv.writer(text)
            table.writerow(COLUMNS)
            for each in samples:
                table.writerow([_cell(getattr(each.row, name)) for name in COLUMNS])
            text.detach()
            building.publish()


def _cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULAS) else value
