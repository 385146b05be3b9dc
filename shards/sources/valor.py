"""VALOR-1M: clips of 10 s out of AudioSet with a written description each, by video2dataset (arXiv 2304.08345)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from captioner.types import ShardInput
from shards.blob import Listed, OpenBlob
from shards.samples import CLIPS, TarReading
from shards.sources import img2dataset, video2dataset
from shards.sources.tars import plan_tars, read_tar

META = img2dataset.Mapped(text=(*video2dataset.TEXT, ("desc", "caption")), numbers=video2dataset.NUMBERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Valor:
    """VALOR's clips. max_member_bytes: larger ones are passed over."""

    version: ClassVar[int] = 1
    max_member_bytes: int = video2dataset.MAX_CLIP_BYTES

    def plan(self, listing: Sequence[Listed]) -> list[ShardInput]:
        """Its tars, one a shard. Raises Refused when there is none."""
        return plan_tars(listing)

    def read(self, shard: ShardInput, open_blob: OpenBlob) -> TarReading:
        """One tar's samples. Raises SourceError for another object than the planned one."""
        return read_tar(shard, open_blob, META, self.max_member_bytes, CLIPS)
