"""A shard's files as img2dataset 1.47.0 writes them, made without it: its Parquet columns, its tar, its stats."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from shards.downloads import STATS, Wanted
from shards.pack import Packed, tar_of

Fate = Callable[[dict[str, Any]], bytes | str]  # a row of the list -> its picture, or the message that it failed with
ADDED = ("key", "status", "error_message", "width", "height", "original_width", "original_height", "sha256")
KINDS = dict.fromkeys(ADDED, pa.string()) | dict.fromkeys(ADDED[3:7], pa.int32())


def write_shard(made: Path, lists: Path, one: Wanted, fate: Fate, drop: int | None = None) -> None:
    """One shard of a list's rows; drop: a row that it loses without a word, as it does where JSON fails it."""
    table = pq.read_table(lists / Path(one.part).name).slice(one.start, one.rows)
    packed, rows = list[Packed](), list[dict[str, Any]]()
    for number, row in enumerate(table.to_pylist()):
        became = fate(row)
        picture = became if isinstance(became, bytes) else None
        row |= dict.fromkeys(ADDED) | {"key": f"{one.name}{number:04d}"}
        if picture is None:
            row |= {"status": "failed_to_download", "error_message": became}
        else:
            row |= {"status": "success", "sha256": hashlib.sha256(picture).hexdigest()}
            packed.append(
                Packed(key=row["key"], extension="jpg", media=picture, caption=row.get("caption"), fields=row)
            )
        if row["list_row"] != drop:
            rows.append(row)
    schema = pa.schema([*table.schema, *((name, KINDS[name]) for name in ADDED)])
    pq.write_table(pa.Table.from_pylist(rows, schema), made / f"{one.name}.parquet")
    dropped = {f"{one.name}{number:04d}" for number, at in enumerate(table["list_row"].to_pylist()) if at == drop}
    (made / f"{one.name}.tar").write_bytes(tar_of(each for each in packed if each.key not in dropped))
    stats = {"count": one.rows, "successes": len(packed), "failed_to_download": one.rows - len(packed)}
    (made / f"{one.name}{STATS}").write_text(json.dumps(stats, indent=4))
