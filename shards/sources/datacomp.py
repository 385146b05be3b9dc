"""DataComp: img2dataset tars whose JSON has a uid and two CLIP scores (https://github.com/mlfoundations/datacomp)."""

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

# `similarity` is the ViT-L/14 score: DataComp's own baselines filter by it.
META = img2dataset.Mapped(
    text=img2dataset.TEXT,
    numbers=(
        ("clip_l14_similarity_score", "similarity"),
        ("clip_l14_similarity_score", "clip_l14_similarity_score"),
        ("clip_b32_similarity_score", "clip_b32_similarity_score"),
        *img2dataset.NUMBERS,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Datacomp:
    """DataComp as its downloader writes it. max_member_bytes: larger pictures are passed over."""

    version: ClassVar[int] = 1
    max_member_bytes: int = MAX_MEMBER_BYTES

    def plan(self, listing: Sequence[Listed]) -> list[ShardInput]:
        """Its tars, one a shard. Raises Refused when there is none."""
        return plan_tars(listing)

    def read(self, shard: ShardInput, open_blob: OpenBlob) -> TarReading:
        """One tar's samples. Raises SourceError for another object than the planned one."""
        return read_tar(shard, open_blob, META, self.max_member_bytes)
