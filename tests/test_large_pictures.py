"""Pictures too large for a reader's usual limit, which a source may be told to take all the same."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from captioner.filters import SCREENS
from captioner.registry import build, part
from captioner.types import Sample
from pipelines.report_pictures import finds, thumbnails
from shards import commits
from shards.blob import Source
from shards.finding import find
from shards.ledger import from_parquet
from shards.pack import Packed, pack
from shards.sources import SOURCES
from shards.spool import HELD_BYTES
from shards.store import Store, open_blob
from tests.corpora import fake_recipe, picture, planned, run_here


def large_picture() -> bytes:
    """A JPEG with 64 MiB of zeros behind it."""
    return picture(1, 1200, 1100) + bytes(HELD_BYTES)


def test_a_picture_beyond_what_readers_hold_is_captioned_and_shown_as_any_other(tmp_path: Path) -> None:
    media, store = large_picture(), Store(str(tmp_path / "out"))
    pack(Store(str(tmp_path / "in")), [Packed(key="k", extension="jpg", media=media)], 1)
    recipe = replace(
        fake_recipe(),
        source=part(SOURCES, "datacomp", max_member_bytes=2**30),
        screens=(part(SCREENS, "bytes", at_most=2**30),),
    )
    plan = planned(recipe, tmp_path / "in")
    (done,) = run_here(recipe, plan, tmp_path / "out")
    assert done.counts["captioned"] == done.counts["read"] == 1
    record = commits.read(store, done.shard)
    assert record is not None
    rows = from_parquet(store.read(next(file.name for file in record.files if file.name.endswith(".parquet"))))
    (shown,) = asyncio.run(thumbnails(finds(store, plan, {done.shard: record}, rows)))
    assert shown.thumbnail is not None and not shown.missing


def test_a_folders_picture_beyond_what_readers_hold_is_whole(tmp_path: Path) -> None:
    media = large_picture()
    (tmp_path / "k.jpg").write_bytes(media)
    source: Source = build(SOURCES, "folder", {"max_member_bytes": 2**30})
    (shard,) = source.plan(find(str(tmp_path)))
    (row,) = source.read(shard, open_blob)
    assert isinstance(row, Sample) and row.large is None and row.media == media
