"""Small tars for the tests: sound ones by Python's tarfile, others by hand where it would refuse to write them."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from captioner.types import Broken, Sample
from shards.blob import MemoryBlob
from shards.samples import TarReading
from shards.tar import Account, Damage, Member, TarReader

Items = Iterable[tuple[str, bytes]]


def tar_of(items: Items, form: int = tarfile.USTAR_FORMAT) -> bytes:
    """A sound tar with its closing zero blocks."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=form) as tar:
        for name, data in items:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return sink.getvalue()


def samples_of(count: int, start: int = 0) -> list[tuple[str, bytes]]:
    """Members of img2dataset's layout; pictures of 600 bytes and more, none with a zero byte."""
    made = []
    for number in range(start, start + count):
        key = f"{number:05d}"
        picture = bytes((number * 7 + at) % 251 + 1 for at in range(600 + 97 * number % 1900))
        made += [(f"{key}.jpg", picture), (f"{key}.txt", f"caption {key}".encode()), (f"{key}.json", b'{"uid": "1"}')]
    return made


def header(name: bytes, size: bytes, kind: bytes = b"0", magic: bytes = b"ustar\x0000", signed: bool = False) -> bytes:
    """A header with a right checksum, whatever its fields say. size: the 12 bytes of its field."""
    block = bytearray(512)
    block[: len(name)] = name
    block[124:136] = size.ljust(12, b"\0")
    block[148:156] = b" " * 8
    block[156:157] = kind
    block[257 : 257 + len(magic)] = magic
    total = sum(byte - 256 if signed and byte > 127 else byte for byte in block)
    block[148:156] = b"%06o\0 " % total
    return bytes(block)


def octal(size: int) -> bytes:
    return b"%011o\0" % size


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def member(name: bytes, data: bytes, kind: bytes = b"0") -> bytes:
    return header(name, octal(len(data)), kind) + padded(data)


def items_of(data: bytes) -> tuple[list[Member | Damage], Account]:
    """What the reader finds, after the check that every byte is accounted for."""
    reader = TarReader(MemoryBlob(data, chunk_bytes=4096))
    items = list(reader)
    assert reader.account.bytes_accounted == reader.account.size == len(data)
    return items, reader.account


def reading_of(data: bytes, take: int | None = None) -> TarReading:
    return TarReading(
        MemoryBlob(data, chunk_bytes=4096),
        shard="00000",
        meta_of=lambda caption, sidecar: {"caption": caption, "sidecar": sidecar},
        take=take,
        max_member_bytes=1 << 20,
    )


def rows_of(data: bytes) -> list[Sample | Broken]:
    """Every row of a shard; no two share a key, and every byte is accounted for."""
    reading = reading_of(data)
    rows = list(reading)
    assert reading.account.bytes_accounted == len(data)
    assert len({row.key for row in rows}) == len(rows)
    return rows


def broken(rows: Iterable[Sample | Broken]) -> list[tuple[str, str]]:
    return [(row.key, row.reason) for row in rows if isinstance(row, Broken)]


def good(rows: Iterable[Sample | Broken]) -> Iterator[Sample]:
    return (row for row in rows if isinstance(row, Sample))


@dataclass
class CountingBlob:
    """A huge object that is made up as it is read: a head, then filler. Counts what was taken."""

    head: bytes
    size: int
    tail: bytes = b""
    etag: str = "1"
    given: int = 0

    def chunks(self, offset: int = 0) -> Iterator[bytes]:
        while offset < self.size:
            piece = self._at(offset)[: self.size - offset]
            self.given += len(piece)
            yield piece
            offset += len(piece)

    def _at(self, offset: int) -> bytes:
        tail_at = self.size - len(self.tail)
        if offset < len(self.head):
            return self.head[offset:]
        return self.tail[offset - tail_at :] if offset >= tail_at else b"\xaa" * min(1 << 20, tail_at - offset)
