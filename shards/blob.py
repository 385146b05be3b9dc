"""What stores give and sources take: a listed object, an open one, and how a dataset turns them into samples."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from captioner.errors import SourceError
from captioner.types import Broken, Sample, ShardInput

if TYPE_CHECKING:
    from shards.tar import Account

CHUNK_BYTES = 1 << 20  # larger chunks leave the cache: 4 MiB reads 100 KB members 10-20 % slower


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """An object found under --input, not opened yet. size: bytes."""

    url: str
    size: int
    etag: str


class Blob(Protocol):
    """One version of one object. etag: names that version; the store refuses to mix it with another."""

    @property
    def size(self) -> int: ...
    @property
    def etag(self) -> str: ...

    def chunks(self, offset: int = 0) -> Iterator[bytes]:
        """The bytes from offset to the end, in order, in pieces of any size. Raises SourceError."""


OpenBlob = Callable[[str, str], Blob]  # url, etag as planned -> the object, or SourceError


class Reading(Protocol):
    """One pass over a shard: iterate it once, then read what became of its bytes."""

    @property
    def account(self) -> Account: ...
    def __iter__(self) -> Iterator[Sample | Broken]: ...


class Source(Protocol):
    """A dataset's way of naming shards and fields; listing and opening are the store's."""

    def plan(self, listing: Sequence[Listed]) -> list[ShardInput]: ...
    def read(self, shard: ShardInput, open_blob: OpenBlob) -> Reading: ...


@dataclass(frozen=True, slots=True)
class MemoryBlob:
    """Bytes already here. etag: their SHA-256 unless given."""

    data: bytes
    etag: str = ""
    chunk_bytes: int = CHUNK_BYTES

    def __post_init__(self) -> None:
        if not self.etag:
            object.__setattr__(self, "etag", hashlib.sha256(self.data).hexdigest())

    @property
    def size(self) -> int:
        return len(self.data)

    def chunks(self, offset: int = 0) -> Iterator[bytes]:
        for start in range(offset, len(self.data), self.chunk_bytes):
            yield self.data[start : start + self.chunk_bytes]


class FileBlob:
    """A file on a local disk. etag: size, modification time and inode, so that a replaced file is another version."""

    def __init__(self, path: Path) -> None:
        self.path = path
        stat = path.stat()
        self.size = stat.st_size
        self.etag = f"{stat.st_size:x}-{stat.st_mtime_ns:x}-{stat.st_ino:x}"

    def chunks(self, offset: int = 0) -> Iterator[bytes]:
        with self.path.open("rb", buffering=0) as file:
            file.seek(offset)
            while piece := file.read(CHUNK_BYTES):
                yield piece


def open_planned(shard: ShardInput, open_blob: OpenBlob) -> Blob:
    """The very version that was planned. Raises SourceError `source_changed` for any other."""
    blob = open_blob(shard.url, shard.etag)
    if (blob.size, blob.etag) != (shard.size, shard.etag):
        there, planned = f"{blob.size} bytes {blob.etag}", f"{shard.size} bytes {shard.etag}"
        raise SourceError("source_changed", f"planned {planned}, now {there}")
    return blob
