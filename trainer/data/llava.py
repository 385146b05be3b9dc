"""LLaVA's JSON as a feed: conversations with one picture, one video, or none."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from captioner.errors import MediaError, Refused
from captioner.media.header import read_header
from shards import commits
from trainer.data.entries import Entry, Feed
from trainer.image_size import Size
from trainer.templates import Turn

HEADER_BYTES = 2**18  # a picture's size stands before its pixels, behind at most some EXIF
PART = 1000  # samples of a part: what is looked at together
FRAMES = (".jpg", ".jpeg", ".png", ".webp")


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversations:
    """A run of a JSON list. `image` is a path in `folder`; `video` a folder there, whose pictures are its frames."""

    samples_: Sequence[dict[str, Any]]
    folder: Path
    frames: int

    @property
    def samples(self) -> int:
        return len(self.samples_)

    def entries(self, start: int, stop: int) -> list[Entry]:
        return [self.entry(each) for each in self.samples_[start:stop]]

    def entry(self, sample: dict[str, Any]) -> Entry:
        """What does not fit is an entry too, that no template takes: it is counted where it is planned."""
        words = json.dumps(sample, sort_keys=True)
        key, sha256 = str(sample.get("id", words[:80])), commits.sha256_of(words.encode())
        try:
            turns = tuple(Turn(speaker=each["from"], text=each["value"]) for each in sample["conversations"])
            paths = self.paths(sample)
            size = size_of(paths[0]) if paths else None
        except (KeyError, TypeError, OSError, MediaError):
            return Entry(key=key, turns=(), sha256=sha256)
        fetch = (lambda: [path.read_bytes() for path in paths]) if paths else None
        return Entry(key=key, turns=turns, sha256=sha256, size=size, frames=max(1, len(paths)), fetch=fetch)

    def paths(self, sample: dict[str, Any]) -> list[Path]:
        """The picture, or as many evenly spaced frames as a stage takes at most."""
        if "image" in sample:
            return [self.folder / sample["image"]]
        if "video" not in sample:
            return []
        there = sorted(each for each in (self.folder / sample["video"]).iterdir() if each.suffix.lower() in FRAMES)
        if len(there) <= self.frames:
            return there
        return [there[round(at * (len(there) - 1) / max(1, self.frames - 1))] for at in range(self.frames)]


def size_of(path: Path) -> Size:
    """Raises OSError, MediaError."""
    with path.open("rb") as file:
        header = read_header(file.read(HEADER_BYTES))
    if not header.width:
        raise MediaError("unsupported_format", f"a {header.format} is not read here")
    return header.width, header.height


def conversations(url: str, weight: float | None, images: str = "", frames: int = 1) -> Feed:
    """A JSON list, or one object a line (.jsonl), on disk. `images` is where its paths begin: by default its folder.

    Raises Refused for a file that is neither.
    """
    path = Path(url).expanduser()
    try:
        text = path.read_text()
        rows = [json.loads(line) for line in text.splitlines() if line.strip()] if path.suffix == ".jsonl" else None
        samples = json.loads(text) if rows is None else rows
    except (OSError, ValueError) as error:
        raise Refused(f"{url} does not read as LLaVA's JSON: {error}") from error
    if not isinstance(samples, list) or not all(isinstance(each, dict) for each in samples):
        raise Refused(f"{url} is no list of conversations")
    folder = Path(images or path.parent).expanduser()
    cuts = [samples[at : at + PART] for at in range(0, len(samples), PART)]
    parts = [Conversations(samples_=cut, folder=folder, frames=frames) for cut in cuts]
    version = commits.sha256_of(text.encode())
    return Feed(name=url, weight=len(samples) if weight is None else weight, parts=parts, version=version)
