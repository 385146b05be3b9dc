"""WebVid: stock clips of 10 to 60 s with a title each, as video2dataset writes them (arXiv 2104.00650)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from captioner.types import ShardInput
from shards.blob import Listed, OpenBlob
from shards.samples import CLIPS, TarReading
from shards.sources import img2dataset, video2dataset
from shards.sources.tars import plan_tars, read_tar

# The page title is the caption; page_dir is the page's folder at the stock agency.
META = img2dataset.Mapped(
    text=(*video2dataset.TEXT, ("name", "caption"), ("page_dir", "page_dir")), numbers=video2dataset.NUMBERS
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Webvid:
    """WebVid's clips. max_member_bytes: larger ones are passed over."""

    version: ClassVar[int] = 1
    max_member_bytes: int = video2dataset.MAX_CLIP_BYTES

    def plan(self, listing: Sequence[Listed]) -> list[ShardInput]:
        """Its tars, one a shard. Raises Refused when there is none."""
        return plan_tars(listing)

    def read(self, shard: ShardInput, open_blob: OpenBlob) -> TarReading:
        """One tar's samples. Raises SourceError for another object than the planned one."""
        return read_tar(shard, open_blob, META, self.max_member_bytes, CLIPS)
