"""Plain pictures or clips in folders, captioned as shards of 1,000: `a.txt` and `a.json` beside `a.jpg` go with it."""

from __future__ import annotations

import hashlib
import json
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar
from urllib.parse import unquote

from captioner.errors import Refused, SourceError
from captioner.types import Broken, Kind, Sample, ShardInput, Spooled
from shards.blob import Blob, Listed, OpenBlob
from shards.samples import CLIPS, PICTURES, USED, MetaOf, meta_and_flags
from shards.sidecars import MAX_SIDECAR_BYTES
from shards.sources import img2dataset, video2dataset
from shards.spool import HELD_BYTES, spooled
from shards.tar import MAX_MEMBER_BYTES, Account
from shards.tar_header import MAX_KEY_BYTES, clean_name, shown_name

EXTENSIONS = {"image": PICTURES, "video": CLIPS}
TARS = {"image": "datacomp", "video": "webvid"}
META = {
    "image": img2dataset.Mapped(text=img2dataset.TEXT, numbers=img2dataset.NUMBERS),
    "video": img2dataset.Mapped(text=video2dataset.TEXT, numbers=video2dataset.NUMBERS),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """Every picture under the input, by its extension, or every clip. pictures_per_shard: of one commit record."""

    version: ClassVar[int] = 1
    max_member_bytes: int = MAX_MEMBER_BYTES
    pictures_per_shard: int = 1000
    kind: Kind = "image"

    def __post_init__(self) -> None:
        if self.pictures_per_shard < 1:
            raise ValueError(f"pictures_per_shard is {self.pictures_per_shard}; at least 1")

    def plan(self, listing: Sequence[Listed]) -> list[ShardInput]:
        """The pictures, sorted by URL, in shards `pictures-00000` and on. Raises Refused when there is none."""
        found = {one.url: one for one in listing}
        pictures = sorted(url for url in found if _extension(url) in EXTENSIONS[self.kind])
        if not pictures:
            seen = f"{len(listing)} objects, such as {listing[0].url}" if listing else "nothing at all"
            raise Refused(
                f"no {self.kind} under the input, but {seen}; for tars there is pipelines/recap_{TARS[self.kind]}.py"
            )
        root = _root(pictures)
        count = self.pictures_per_shard
        parts = [pictures[start : start + count] for start in range(0, len(pictures), count)]
        name = "pictures" if self.kind == "image" else "clips"
        return [_shard(f"{name}-{number:05d}", root, part, found) for number, part in enumerate(parts)]

    def read(self, shard: ShardInput, open_blob: OpenBlob) -> FolderReading:
        """One shard's pictures. Its objects are opened one by one while it is iterated."""
        return FolderReading(
            shard=shard,
            open_blob=open_blob,
            meta_of=META[self.kind],
            max_member_bytes=self.max_member_bytes,
            kind=self.kind,
        )


def _extension(url: str) -> str:
    return posixpath.splitext(url)[1][1:].lower()


def _beside(url: str) -> dict[str, tuple[str, str]]:
    """Where a picture's neighbours may stand, by extension; of two spellings the last counts. In tars case is nothing
    either."""
    stem = posixpath.splitext(url)[0]
    return {ext: (f"{stem}.{ext.upper()}", f"{stem}.{ext}") for ext in USED}


def _root(urls: list[str]) -> str:
    """The deepest folder that holds all of them, with its closing slash."""
    return posixpath.commonprefix([posixpath.dirname(url) + "/" for url in urls]).rpartition("/")[0] + "/"


def _shard(name: str, root: str, pictures: list[str], found: dict[str, Listed]) -> ShardInput:
    beside = {each for url in pictures for spelt in _beside(url).values() for each in spelt}
    members = [found[url] for url in sorted(beside.intersection(found).union(pictures))]
    pinned = tuple((one.url, one.size, one.etag) for one in members)
    etag = hashlib.sha256(json.dumps(pinned).encode()).hexdigest()
    return ShardInput(shard=name, url=root, size=sum(one.size for one in members), etag=etag, members=pinned)


@dataclass(slots=True, kw_only=True)
class FolderReading:
    """One pass over a folder's shard: iterate it once, then read `account` and `flags`."""

    shard: ShardInput
    open_blob: OpenBlob
    meta_of: MetaOf
    max_member_bytes: int
    kind: Kind
    _read: dict[str, int] = field(default_factory=dict)  # URL -> bytes, each object counted once
    _keys: set[str] = field(default_factory=set)

    @property
    def flags(self) -> tuple[str, ...]:
        """A folder has no damage of its own: an object is there as planned, or reading it raises SourceError."""
        return ()

    @property
    def account(self) -> Account:
        """Bytes of the objects read; pictures over the limit, and all after an early stop, count as unread."""
        data = sum(self._read.values())
        return Account(size=self.shard.size, data_bytes=data, unread_bytes=self.shard.size - data)

    def __iter__(self) -> Iterator[Sample | Broken]:
        members = {url: (size, etag) for url, size, etag in self.shard.members}
        pictures = [url for url in members if _extension(url) in EXTENSIONS[self.kind]]
        for url in pictures[: self.shard.take]:
            yield self._picture(url, members)

    def _picture(self, url: str, members: dict[str, tuple[int, str]]) -> Sample | Broken:
        name = unquote(url[len(self.shard.url) :]) if url.startswith("file://") else url[len(self.shard.url) :]
        size, etag = members[url]
        raw = name.encode("utf-8", "surrogateescape")
        key = None if clean_name(raw) is None else self._key(name)
        if key is None or len(key.encode()) > MAX_KEY_BYTES:
            shown = self._alone(shown_name(raw), name)
            return self._broken(shown, "bad_member_name", "an unclean path, too long, or not UTF-8")
        if size > self.max_member_bytes:
            return self._broken(key, "member_too_large", f"{size} bytes, at most {self.max_member_bytes} are held")
        beside = {ext: each for ext, spelt in _beside(url).items() for each in spelt if each in members}
        sidecars = {ext: self._sidecar(url, *members[url]) for ext, url in beside.items()}
        meta, flags = meta_and_flags(sidecars, self.meta_of)
        media, large = self._media(url, size, etag)
        return Sample(
            key=key,
            kind=self.kind,
            media=media,
            large=large,
            meta=meta,
            source_shard=self.shard.shard,
            flags=flags,
        )

    def _sidecar(self, url: str, size: int, etag: str) -> bytes | None:
        return self._bytes(url, size, etag) if size <= MAX_SIDECAR_BYTES else None

    def _key(self, name: str) -> str:
        """The path without its extension and without dots; a hash of the whole name where another has that already."""
        return self._alone(posixpath.splitext(name)[0].replace(".", "_"), name)

    def _alone(self, key: str, name: str) -> str:
        """The key, made another one where a row has it: names that cannot be shown whole may look alike."""
        while key in self._keys:
            key = f"{key}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
        self._keys.add(key)
        return key

    def _media(self, url: str, size: int, etag: str) -> tuple[bytes, Spooled | None]:
        """An object's bytes; of a large clip its beginning, and the file that all of it lies in."""
        if size <= HELD_BYTES or self.kind == "image":
            return self._bytes(url, size, etag), None
        beginning, large = spooled(self._planned(url, size, etag).chunks())
        self._whole(url, size, large.size)
        return beginning, large

    def _bytes(self, url: str, size: int, etag: str) -> bytes:
        data = b"".join(self._planned(url, size, etag).chunks())
        self._whole(url, size, len(data))
        return data

    def _planned(self, url: str, size: int, etag: str) -> Blob:
        blob = self.open_blob(url, etag)
        if (blob.size, blob.etag) != (size, etag):
            raise SourceError("source_changed", f"{url}: planned {size} bytes {etag}, now {blob.size} {blob.etag}")
        return blob

    def _whole(self, url: str, size: int, came: int) -> None:
        if came != size:
            raise SourceError("source_corrupt", f"{url}: {came} bytes came of {size}")
        self._read[url] = size

    def _broken(self, key: str, reason: str, detail: str) -> Broken:
        return Broken(key=key, source_shard=self.shard.shard, reason=reason, detail=detail)
