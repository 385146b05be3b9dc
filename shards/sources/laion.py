"""LAION-400M, -5B and their subsets, as img2dataset writes them: similarity, punsafe and pwatermark in the JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from captioner.types import ShardInput
from shards.blob import Listed, OpenBlob
from shards.samples import TarReading
from shards.sources import img2dataset
from shards.sources.tars import plan_tars, read_tar
from shards.tar import MAX_MEMBER_BYTES

META = img2dataset.Mapped(
    text=(*img2dataset.TEXT, ("NSFW", "nsfw"), ("nsfw", "nsfw"), ("LICENSE", "license"), ("LANGUAGE", "language")),
    numbers=(*img2dataset.NUMBERS, ("AESTHETIC_SCORE", "aesthetic"), ("aesthetic", "aesthetic")),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Laion:
    """LAION's pictures. max_member_bytes: larger ones are passed over."""

    version: ClassVar[int] = 1
    max_member_bytes: int = MAX_MEMBER_BYTES

    def plan(self, listing: Sequence[Listed]) -> list[ShardInput]:
        """Its tars, one a shard. Raises Refused when there is none."""
        return plan_tars(listing)

    def read(self, shard: ShardInput, open_blob: OpenBlob) -> TarReading:
        """One tar's samples. Raises SourceError for another object than the planned one."""
        return read_tar(shard, open_blob, META, self.max_member_bytes)
