"""SA-1B: tars of `sa_<number>.jpg` and `.json`, which has the picture's size and a hundred masks, and no caption."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from captioner.types import ShardInput
from shards.blob import Listed, OpenBlob
from shards.samples import TarReading
from shards.sources.tars import plan_tars, read_tar
from shards.tar import MAX_MEMBER_BYTES


def meta(caption: str | None, sidecar: Mapping[str, Any] | None) -> dict[str, Any]:
    """The picture's own fields. Its masks stay where they are, for its number finds them: a corpus that nobody segments
    by would carry a hundred of them a picture."""
    image = (sidecar or {}).get("image")
    known = {"caption": caption} if caption else {}
    return known | ({"sidecar": {"image": image}} if isinstance(image, Mapping) else {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Sa1b:
    """SA-1B as it is given out. max_member_bytes: larger pictures are passed over."""

    version: ClassVar[int] = 1
    max_member_bytes: int = MAX_MEMBER_BYTES

    def plan(self, listing: Sequence[Listed]) -> list[ShardInput]:
        """Its tars, one a shard. Raises Refused when there is none."""
        return plan_tars(listing)

    def read(self, shard: ShardInput, open_blob: OpenBlob) -> TarReading:
        """One tar's samples. Raises SourceError for another object than the planned one."""
        return read_tar(shard, open_blob, meta, self.max_member_bytes)
