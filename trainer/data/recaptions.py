"""Committed corpora as feeds: recaptioned, or with the captions that the web gave the same pictures."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from captioner.errors import MediaError
from captioner.prompts import prompt
from captioner.types import Spooled
from shards import commits
from shards.ledger import Row
from shards.reading import Media, Shard, open_corpus
from trainer.data.clips import Look, frames_of
from trainer.data.entries import Entry, Feed
from trainer.templates import IMAGE, Turn

QUESTION = f"{IMAGE}\n{prompt('describe-in-detail-1')}"  # what a dialogue template asks; the plain one asks nothing


def new_caption(row: Row) -> str:
    return row.caption or ""


def alt_text(row: Row) -> str:
    return row.original_caption or ""


@dataclass(slots=True)
class Recaptioned:
    """One committed shard. Its tar is looked through when the first of its pictures is wanted, not to plan."""

    shard: Shard
    words: Callable[[Row], str]
    look: Look
    _media: Media | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def samples(self) -> int:
        return self.shard.samples

    def entries(self, start: int, stop: int) -> list[Entry]:
        # The media are opened anew for each reading, and closed with the last entry of it.
        whole = Recaptioned(self.shard, self.words, self.look)
        return [whole.entry(row) for row in self.shard.rows()[start:stop]]

    def entry(self, row: Row) -> Entry:
        return Entry(
            key=f"{self.shard.name}/{row.key}",
            turns=(Turn(speaker="human", text=QUESTION), Turn(speaker="gpt", text=self.words(row))),
            sha256=row.sha256 or commits.sha256_of(row.key.encode()),
            size=(row.width or 1, row.height or 1),
            frames=(count := self.frames(row)) or 1,
            fetch=partial(self.fetch, row.key, row.sha256, count),
        )

    def frames(self, row: Row) -> int:
        """Of a video, by the times at which it was looked at when it was captioned; 0 for a picture."""
        return 0 if row.frame_times is None else max(1, min(self.look.frames, len(set(row.frame_times))))

    def fetch(self, key: str, sha256: str | None, frames: int) -> list[bytes]:
        """Raises MediaError for bytes that are not those that were captioned."""
        with self._lock:
            self._media = self._media or self.shard.media()
        media = self._media.held(key) if frames else self._media.read(key)
        there = media.sha256 if isinstance(media, Spooled) else commits.sha256_of(media)
        if sha256 and there != sha256:
            raise MediaError("undecodable", "not the bytes that were captioned")
        if isinstance(media, Spooled):
            return frames_of(media.file, frames, self.look)
        return frames_of(media, frames, self.look) if frames else [media]


def feed(url: str, weight: float | None, look: Look, words: Callable[[Row], str], version: str | None = None) -> Feed:
    """A manifest of a corpus: the newest, or that of a `version` told before. Raises Refused, CorruptState."""
    there, shards = open_corpus(url, int(version.partition(" ")[0]) if version else None)
    parts = [Recaptioned(shard, words, look) for shard in shards]
    samples = sum(part.samples for part in parts)
    told = f"{there.number} {there.sha256}"
    return Feed(name=url, weight=samples if weight is None else weight, parts=parts, version=told)


recaptioned = partial(feed, words=new_caption)
web_captioned = partial(feed, words=alt_text)
