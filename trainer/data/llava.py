"""LLaVA's JSON as a feed: conversations with one picture, one video, or none."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from captioner.errors import MediaError, Refused
from shards import commits
from trainer.data.clips import Look, clip_of, frames_of
from trainer.data.entries import Entry, Feed
from trainer.image_size import Size, size_told
from trainer.templates import Turn

HEADER_BYTES = 2**18  # a picture's size stands before its pixels, behind at most some EXIF
PART = 1000  # samples of a part: what is looked at together
FRAMES = (".jpg", ".jpeg", ".png", ".webp")


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversations:
    """A run of a JSON list. `image` is a path in `folder`; `video` a clip there, or a folder of its frames."""

    talks: Sequence[dict[str, Any]]
    folder: Path
    look: Look

    @property
    def samples(self) -> int:
        return len(self.talks)

    def entries(self, start: int, stop: int) -> list[Entry]:
        return [self.entry(each) for each in self.talks[start:stop]]

    def entry(self, sample: dict[str, Any]) -> Entry:
        """What does not fit is an entry too, that no template takes: it is counted where it is planned.

        No file is opened yet: a block has thousands of entries, and a window takes a few of them.
        """
        words = json.dumps(sample, sort_keys=True)
        key, sha256 = str(sample.get("id", words[:80])), commits.sha256_of(words.encode())
        try:
            turns = tuple(Turn(speaker=each["from"], text=spelled(each["value"])) for each in sample["conversations"])
            paths = [self.folder / spelled(sample[kind]) for kind in ("image", "video") if sample.get(kind)]
        except (KeyError, TypeError, ValueError):
            turns, paths = (), []
        entry = Entry(key=key, turns=turns, sha256=sha256)
        if not paths:
            return entry
        return replace(entry, measure=partial(self.measured, entry, paths[0], not sample.get("image")))

    def measured(self, entry: Entry, path: Path, moves: bool) -> Entry:
        """The entry with what is to be seen. moves: a video. Raises MediaError."""
        with missing_if_gone():
            if moves and path.is_file():
                with path.open("rb") as clip:
                    size, count = clip_of(clip, self.look)
                return replace(entry, size=size, frames=count, fetch=partial(clip_bytes, path, count, self.look))
            paths = self.spread(path) if moves else [path]
            return replace(entry, size=size_of(paths[0]), frames=len(paths), fetch=partial(bytes_of, paths))

    def spread(self, folder: Path) -> list[Path]:
        """As many frames of a folder, evenly spaced, as are taken at most. Raises OSError for one without any."""
        there = sorted(each for each in folder.iterdir() if each.suffix.lower() in FRAMES)
        if not there:
            raise FileNotFoundError(folder)
        most = min(self.look.frames, len(there))
        return [there[round(at * (len(there) - 1) / max(1, most - 1))] for at in range(most)]


def spelled(text: Any) -> str:
    """The text, or path, itself. Raises TypeError for what is none; ValueError where it is none that can be read: JSON
    may hold half a character's surrogate pair, which no tokenizer takes, and a NUL, which no path has."""
    if not isinstance(text, str):
        raise TypeError(f"{type(text).__name__} where a text would be right")
    if "\0" in text:
        raise ValueError("a NUL in a text")
    text.encode()
    return text


def clip_bytes(path: Path, count: int, look: Look) -> list[bytes]:
    """Raises MediaError."""
    with missing_if_gone(), path.open("rb") as clip:
        return frames_of(clip, count, look)


def bytes_of(paths: Sequence[Path]) -> list[bytes]:
    """Raises MediaError."""
    with missing_if_gone():
        return [path.read_bytes() for path in paths]


@contextmanager
def missing_if_gone() -> Iterator[None]:
    """A file that is not there, or not any more, is a MediaError."""
    try:
        yield
    except OSError as error:
        raise MediaError("missing", str(error)) from error


def size_of(path: Path) -> Size:
    """Raises OSError, MediaError."""
    with path.open("rb") as file:
        return size_told(file.read(HEADER_BYTES))


def conversations(url: str, weight: float | None, look: Look) -> Feed:
    """A JSON list, or one object a line (.jsonl), on disk.

    Raises Refused for a file that is neither.
    """
    path = Path(url).expanduser()
    try:
        text = path.read_text()
        # At "\n" alone: a text may hold other line ends, such as U+2028, as they are.
        rows = [json.loads(line) for line in text.split("\n") if line.strip()] if path.suffix == ".jsonl" else None
        samples = json.loads(text) if rows is None else rows
    except (OSError, ValueError) as error:
        raise Refused(f"{url} does not read as LLaVA's JSON: {error}") from error
    if not isinstance(samples, list) or not all(isinstance(each, dict) for each in samples):
        raise Refused(f"{url} is no list of conversations")
    folder = Path(look.images or path.parent).expanduser()
    cuts = [samples[at : at + PART] for at in range(0, len(samples), PART)]
    parts = [Conversations(talks=cut, folder=folder, look=look) for cut in cuts]
    version = commits.sha256_of(text.encode())
    return Feed(name=url, weight=len(samples) if weight is None else weight, parts=parts, version=version)
