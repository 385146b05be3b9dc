"""Samples on their way out of a corpus: who goes, under which name, with which bytes."""

from __future__ import annotations

import hashlib
import itertools
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Protocol, TypeVar
from urllib.parse import quote

from captioner.errors import CorruptState, OutOfService, Refused
from captioner.filters.markup import TOKENS
from captioner.types import Kind, Spooled
from shards import commits
from shards.keys import SeenKeys
from shards.ledger import Row
from shards.reading import Media, Shard
from shards.store import Store

# Why a captioned sample of the corpus is not in an export: every one of them is counted.
LEFT_OUT: Mapping[str, str] = MappingProxyType(
    {
        "share": "not of the share that was drawn",
        "duplicate": "the same bytes went out before",
        "clip": "a clip, where the format has pictures only",
        "aspect": "its long side is more than --max-aspect times its short one",
        "markup": "its caption has a special token or role name that a trainer takes for its own",
    }
)
A_FOLDER = 1000  # files of a folder at most: file systems and people look through it
WRITERS = 16  # media under way at once: a disk's fsync and a far store's answer both take milliseconds
AHEAD = 256  # samples whose media are written before the next ones are looked at
LONGEST_NAME = 150  # characters of a key in a file's name; file systems end at 255 bytes

T = TypeVar("T")


class Opened:
    """A shard's media, opened when the first of them is wanted, by whichever thread: a table wants none.

    upright: what is done to a picture on its way out.
    """

    def __init__(self, shard: Shard, upright: Callable[[bytes], bytes]) -> None:
        self.shard, self._upright = shard, upright
        self._media: Media | None = None
        self._lock = threading.Lock()

    def media(self) -> Media:
        """Raises CorruptState, OutOfService, SourceError."""
        with self._lock:
            self._media = self._media or self.shard.media()
        return self._media

    def fetch(self, row: Row) -> bytes | Spooled:
        """The bytes that go out. Raises CorruptState where the stored ones are not those that were captioned."""
        media = self.media().held(row.key)
        there = media.sha256 if isinstance(media, Spooled) else commits.sha256_of(media)
        if row.sha256 and there != row.sha256:
            words = f"{row.key!r} of {self.shard.name} has not the bytes that were captioned"
            raise CorruptState(f"corrupt_state: {words}")
        return media if isinstance(media, Spooled) or is_clip(row) else self._upright(media)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """One captioned sample that goes out.

    name: unique in the corpus and safe as a relative path, without extension: `<shard>/<thousand>/<key>`, spelled by
    letters, digits, `_`, `-`, `~` and `%`.
    """

    row: Row
    name: str
    opened: Opened

    @property
    def kind(self) -> Kind:
        return "video" if is_clip(self.row) else "image"

    @property
    def extension(self) -> str:
        """Of the stored bytes' own format, no dot."""
        return self.opened.media().extension(self.row.key)

    @property
    def path(self) -> str:
        """Where its media lie in an export that writes files."""
        return f"{self.kind}s/{self.name}.{self.extension}"

    @property
    def caption(self) -> str:
        return (self.row.caption or "").strip()

    def fetch(self) -> bytes | Spooled:
        """Its bytes, a large one's in a file. Raises CorruptState."""
        return self.opened.fetch(self.row)

    def whole(self) -> bytes:
        """Its bytes, held."""
        media = self.fetch()
        return media if isinstance(media, bytes) else media.whole()


class Format(Protocol):
    """How an export is laid out; a dataclass whose fields are its settings. clips: whether it has a place for them."""

    clips: bool

    def write(self, samples: Iterator[Outgoing], to: Store) -> None:
        """Everything there is, in objects that are created whole. What is there already, a killed export left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which captioned samples go out.

    share: of all, drawn by their bytes' sha256: the same on every machine, equal pictures together, and a smaller share
    is part of a larger one. unique: of equal bytes the first ones only, at 16 to 32 bytes of memory each. max_aspect:
    long over short side, 0 for any; up to 5, EVEv2's loader makes 701 tokens at most of a picture at 800 px.
    """

    share: float = 1.0
    unique: bool = False
    max_aspect: float = 5.0

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise Refused(f"--share {self.share:g}: above 0 and up to 1 would be right")
        if self.max_aspect != 0 and not self.max_aspect >= 1:
            raise Refused(f"--max-aspect {self.max_aspect:g}: 1 or more would be right, or 0 for any")

    def against(self, row: Row, clips: bool, seen: SeenKeys) -> str | None:
        """Why a sample stays behind, one of LEFT_OUT; None where it goes. clips: whether they have a place. seen: the
        digests of those that went."""
        if self.share < 1 and drawn(row) >= self.share:
            return "share"
        if is_clip(row) and not clips:
            return "clip"
        short, long = sorted((row.width or 1, row.height or 1))
        if self.max_aspect and long > self.max_aspect * short:
            return "aspect"
        if TOKENS.search(row.caption or ""):
            return "markup"
        return "duplicate" if self.unique and not seen.add(row.sha256 or row.key) else None


def drawn(row: Row) -> float:
    """A number from 0 to below 1 that a sample always draws."""
    return int((row.sha256 or commits.sha256_of(row.key.encode()))[:12], 16) / 16**12


def is_clip(row: Row) -> bool:
    """Of a picture nothing was looked at over time."""
    return row.frame_times is not None


def spelled(key: str) -> str:
    """A key or shard as one part of a path, the same for no other: neither `.` nor `/` is left, and no end is open."""
    name = quote(key, safe="").replace(".", "%2E")
    if len(name) <= LONGEST_NAME:
        return name
    cut = re.sub("%[0-9A-F]?$", "", name[:LONGEST_NAME])
    return f"{cut}~{hashlib.sha256(key.encode()).hexdigest()[:16]}"


def outgoing(opened: Opened, rows: Iterable[Row], kept: Callable[[Row], bool]) -> Iterator[Outgoing]:
    """A shard's samples, those that are kept, in the order of its captioned rows."""
    for number, row in enumerate(rows):
        if kept(row):
            name = f"{spelled(row.source_shard)}/{number // A_FOLDER:03d}/{spelled(row.key)}"
            yield Outgoing(row=row, name=name, opened=opened)


def with_media(samples: Iterator[Outgoing], to: Store) -> Iterator[Outgoing]:
    """The same samples, each once its media are stored at its `path`. Raises what fetch raises, OutOfService."""
    with ThreadPoolExecutor(WRITERS) as pool:
        for some in runs_of(samples, AHEAD):
            there = _there(some, to)
            for _ in pool.map(partial(store_media, to=to), (each for each in some if each.path not in there)):
                pass
            yield from some


def _there(some: Iterable[Outgoing], to: Store) -> set[str]:
    """Of the folders that these samples go to, the names that a killed export has left."""
    folders = {each.path.rpartition("/")[0] for each in some}
    return {name for folder in sorted(folders) for name in to.names(f"{folder}/")}


def store_media(sample: Outgoing, to: Store) -> None:
    """Create one sample's file."""
    media = sample.fetch()
    if isinstance(media, bytes):
        to.create(sample.path, media)
        return
    with to.building(sample.path) as building:
        for piece in media.chunks():
            building.file.write(piece)
        if not building.publish() and to.size(sample.path) != media.size:
            raise OutOfService(f"{to.url} has another {sample.path}")


def runs_of(items: Iterable[T], most: int) -> Iterator[list[T]]:
    """Lists of so many, the last one of what is left."""
    rest = iter(items)
    while some := list(itertools.islice(rest, most)):
        yield some
