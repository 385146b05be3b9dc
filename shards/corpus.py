"""One shard's files: captioned samples in a tar, every sample in a ledger, the same bytes for the same answers."""

from __future__ import annotations

import contextlib
import hashlib
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import IO

from captioner.errors import OutOfService
from captioner.media.clip_format import header_of
from captioner.types import Sample
from shards.commits import DataFile
from shards.durable import scratch, writing
from shards.journal import Entry
from shards.ledger import Row, to_parquet
from shards.sidecars import compact
from shards.spool import HELD_BYTES
from shards.store import Building, Store
from shards.tar_writer import add, add_sample, open_tar

EXTENSIONS = {"jpeg": "jpg", "tiff": "tif"}
SCRATCH = "scratch for captioned media"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    file: IO[bytes]
    at: int
    size: int
    extension: str
    record: bytes


@dataclass(slots=True)
class _Scratch:
    """Media one after another in a nameless file."""

    file: IO[bytes] = field(default_factory=lambda: scratch(SCRATCH))
    size: int = 0  # asking the file, by seek or tell, would flush it at every sample

    def put(self, pieces: Iterable[bytes]) -> int:
        """Where they begin. Raises OutOfService."""
        at = self.size
        with writing(SCRATCH):
            for piece in pieces:
                self.file.write(piece)
                self.size += len(piece)
        return at


@dataclass(slots=True)
class ShardFiles:
    """What a shard will publish, collected in any order. Media wait in nameless scratch files, not in memory."""

    store: Store
    shard: str
    attempt: str
    rows: list[Row] = field(default_factory=list)
    _kept: dict[str, _Kept] = field(default_factory=dict)
    _scratch: _Scratch = field(default_factory=_Scratch)
    _large: _Scratch = field(default_factory=_Scratch)
    _copied: dict[str, int] = field(default_factory=dict)

    def copy_large(self, sample: Sample) -> None:
        """Keep a large member for `add`, which does no long work: one after another, and off the event loop."""
        if sample.large is not None:
            self._copied[sample.key] = self._large.put(sample.large.chunks())

    def add(self, entry: Entry, sample: Sample | None = None) -> None:
        """Take a judged sample; its media too when it was captioned, a large one's as copy_large kept them."""
        self.rows.append(entry.row)
        if entry.row.outcome != "captioned" or sample is None:
            return
        large = sample.large is not None
        extension = header_of(sample).format  # by its first bytes, whatever its name was
        self._kept[entry.row.key] = _Kept(
            file=(self._large if large else self._scratch).file,
            at=self._copied[sample.key] if large else self._scratch.put((sample.media,)),
            size=sample.size,
            extension=EXTENSIONS.get(extension, extension),
            record=record_json(entry, sample),
        )

    def clear(self) -> None:
        """Forget what was taken: the shard turned out to be none."""
        self.rows.clear()
        self._kept.clear()

    def publish(self) -> tuple[DataFile, ...]:
        """Write and publish the tar and the ledger under attempt-unique names. Raises OutOfService."""
        self.rows.sort(key=lambda row: row.place)
        stem = f"data/{self.shard}-{self.attempt}"
        return self._publish_tar(f"{stem}.tar"), self._publish_ledger(f"{stem}.parquet")

    def _publish_tar(self, name: str) -> DataFile:
        captions = {row.key: row.caption or "" for row in self.rows if row.outcome == "captioned"}
        with self.store.building(name) as building:
            hashed = _Hashed(building.file)
            tar = open_tar(hashed)
            try:
                for key in sorted(self._kept):
                    self._write(tar, key, captions[key])
                tar.close()
            except OSError:
                hashed.give_up()
                raise
            _published(building, name)
        return DataFile(name=name, bytes=hashed.bytes, sha256=hashed.sha256.hexdigest())

    def _write(self, tar: tarfile.TarFile, key: str, caption: str) -> None:
        kept = self._kept[key]
        kept.file.seek(kept.at)
        parts = {"json": kept.record, "txt": caption.encode()}
        if kept.size <= HELD_BYTES:
            parts[kept.extension] = kept.file.read(kept.size)
        else:  # never whole in memory
            add(tar, f"{key}.{kept.extension}", kept.file, kept.size)
        add_sample(tar, key, parts)

    def _publish_ledger(self, name: str) -> DataFile:
        data = to_parquet(self.rows)
        with self.store.building(name) as building:
            building.file.write(data)
            _published(building, name)
        return DataFile(name=name, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())

    def close(self) -> None:
        """Drop the scratch file; what it could not write any more is of no use."""
        for each in (self._scratch, self._large):
            with contextlib.suppress(OSError):
                each.file.close()


def _published(building: Building, name: str) -> None:
    if not building.publish():
        raise OutOfService(f"{name} is taken, although its attempt id is random: the store does not keep names apart")


def record_json(entry: Entry, sample: Sample) -> bytes:
    """A captioned sample's `.json`: its ledger row, the experts' facts and the source's own sidecar."""
    whole = entry.row.plain() | {"facts": entry.facts, "source": sample.meta.get("sidecar")}
    # engine_seconds differs from run to run; the ledger has it, and equal samples shall make equal shards.
    return compact({name: value for name, value in whole.items() if value is not None and name != "engine_seconds"})


class _Hashed:
    """A write-only file that hashes what goes through it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()
        self.bytes = 0
        self._given_up = False

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        self.bytes += len(data)
        return len(data) if self._given_up else self._file.write(data)

    def tell(self) -> int:
        return self.bytes

    def give_up(self) -> None:
        """Swallow what is still to come: a tar stream writes its end even when it is thrown away."""
        self._given_up = True

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        """The file belongs to whoever opened it."""
