"""Reading a corpus back: what a manifest lists, its captioned rows, and the media of one key without its neighbours."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from captioner.errors import CorruptState, Refused
from captioner.types import Spooled
from shards import commits, manifest
from shards.blob import Blob, FileBlob
from shards.commits import Record
from shards.durable import scratch, writing
from shards.ledger import Row, from_parquet
from shards.spool import HELD_BYTES, spooled
from shards.store import Store
from shards.tar import Member, TarReader
from shards.tar_header import BLOCK

SIDECARS = ("txt", "json")
SCRATCH = "scratch for a shard's media"
PIECE_BYTES = 2**20  # of what is spooled: all that is held of it


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One committed shard of a corpus. samples: how many of its rows are captioned."""

    store: Store
    record: Record

    @property
    def name(self) -> str:
        return self.record.shard

    @property
    def samples(self) -> int:
        return self.record.counts["captioned"]

    def rows(self) -> list[Row]:
        """The captioned rows, by key. Raises CorruptState when the ledger is not the one that was committed."""
        file = next(each for each in self.record.files if each.name.endswith(".parquet"))

        def decode(data: bytes) -> list[Row]:
            if commits.sha256_of(data) != file.sha256:
                raise CorruptState(f"corrupt_state: {file.name} is not the file that was committed")
            return [row for row in from_parquet(data) if row.outcome == "captioned"]

        return self.store.read_sound(file.name, decode)

    def media(self) -> Media:
        """The shard's media, open. Raises OutOfService, SourceError, CorruptState."""
        name = next(each.name for each in self.record.files if each.name.endswith(".tar"))
        if self.store.path is not None:
            path = self.store.path / name
            return Media(path.open("rb"), FileBlob(path))
        blob = self.store.blob(name)
        spool = scratch(SCRATCH)
        with writing(SCRATCH):
            for piece in blob.chunks():
                spool.write(piece)
            spool.flush()
        return Media(spool, FileBlob(Path(f"/proc/self/fd/{spool.fileno()}")))


class Media:
    """The media of one tar by key; any thread may read. The file closes with the last who holds this."""

    def __init__(self, file: IO[bytes], blob: Blob) -> None:
        self._file = file
        # Headers only: a reader that holds no data goes through a tar at the speed of the disk.
        members = (each for each in TarReader(blob, held={}) if isinstance(each, Member))
        self._places = {
            each.key: (each.offset + BLOCK, each.size, each.ext) for each in members if each.ext not in SIDECARS
        }

    def extension(self, key: str) -> str:
        """What its name ends in, by the bytes' own format, no dot. Raises CorruptState."""
        return self._place(key)[2]

    def read(self, key: str) -> bytes:
        """The stored bytes. Raises CorruptState for a key that the tar does not have."""
        offset, size, _ = self._place(key)
        pieces = list(self._pieces(offset, size))
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def held(self, key: str) -> bytes | Spooled:
        """The stored bytes, or where they are more than HELD_BYTES a nameless file of them. Raises CorruptState;
        OutOfService where there is no room for it."""
        offset, size, _ = self._place(key)
        return self.read(key) if size <= HELD_BYTES else spooled(self._pieces(offset, size, PIECE_BYTES))[1]

    def _place(self, key: str) -> tuple[int, int, str]:
        if key not in self._places:
            raise CorruptState(f"corrupt_state: the ledger has a captioned {key!r}, and its tar does not")
        return self._places[key]

    def _pieces(self, offset: int, size: int, most: int = 2**31) -> Iterator[bytes]:
        """The kernel gives 2 GiB at most, and less at a file's end."""
        while size and (piece := os.pread(self._file.fileno(), min(size, most), offset)):
            yield piece
            offset, size = offset + len(piece), size - len(piece)


def open_corpus(url: str, number: int | None = None) -> tuple[manifest.Manifest, list[Shard]]:
    """A version of a corpus, the newest if no number is given, and its shards by name. Raises Refused, CorruptState."""
    store = Store(url)
    try:
        version = manifest.read(store, number) if number is not None else manifest.latest(store)
    except FileNotFoundError:
        version = None
    if version is None:
        raise Refused(f"no corpus at {url}: there is no manifest" + (f" {number}" if number is not None else ""))
    listed = dict(version.shards)
    shards = []
    for record in commits.read_all(store, listed):
        if record.sha256 != listed[record.shard]:
            raise CorruptState(f"corrupt_state: {commits.name_of(record.shard)} is not the record that was listed")
        if record.counts["captioned"]:
            shards.append(Shard(store=store, record=record))
    return version, shards
