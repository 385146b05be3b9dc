"""What the demo's later stages read: a corpus's captions as answers, its pictures as files and as panning videos."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from captioner.prompts import prompt
from shards.ledger import Row
from shards.reading import open_corpus
from trainer.templates import IMAGE

QUESTION, SHORTLY = prompt("describe-in-detail-1"), "What is to be seen, in one sentence?"
FRAMES = 6
SIDE = 256  # pixels: enough for what the demo trains at


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A captioned picture of the corpus."""

    row: Row
    media: bytes

    @property
    def caption(self) -> str:
        return self.row.caption or ""


def shown(corpus: str) -> list[Shown]:
    """All captioned pictures, which a demo's corpus has few of."""
    found = []
    for shard in open_corpus(corpus)[1]:
        media = shard.media()
        found += [Shown(row=row, media=media.read(row.key)) for row in shard.rows()]
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Talks:
    """LLaVA's JSON files: short questions about pictures, long ones, and long ones about videos."""

    short: Path
    pictures: Path
    videos: Path


def write(pictures: list[Shown], folder: Path) -> Talks:
    """The files, and the pictures and frames that they name."""
    folder.mkdir(parents=True)
    short, whole, videos = [], [], []
    for number, each in enumerate(pictures):
        image = Image.open(io.BytesIO(each.media)).convert("RGB")
        image.thumbnail((2 * SIDE, 2 * SIDE))
        (folder / f"{number}.jpg").write_bytes(_jpeg(image))
        clip = folder / f"{number}"
        clip.mkdir()
        for at, frame in enumerate(panned(image)):
            (clip / f"{at}.jpg").write_bytes(_jpeg(frame))
        shown = {"id": f"p{number}", "image": f"{number}.jpg"}
        short.append(shown | {"conversations": talk(SHORTLY, each.caption.partition(". ")[0] + ".")})
        whole.append(shown | {"conversations": talk(QUESTION, each.caption)})
        videos.append({"id": f"v{number}", "video": f"{number}", "conversations": talk(QUESTION, each.caption)})
    return Talks(
        short=_listed(folder / "short.json", short),
        pictures=_listed(folder / "pictures.json", whole),
        videos=_listed(folder / "videos.json", videos),
    )


def talk(question: str, answer: str) -> list[dict[str, str]]:
    return [{"from": "human", "value": f"{IMAGE}\n{question}"}, {"from": "gpt", "value": answer}]


def panned(image: Image.Image) -> list[Image.Image]:
    """A camera that stands still, then moves over the picture: neighbouring frames are alike, as in videos."""
    width, height = image.width * 3 // 4, image.height * 3 // 4
    room = image.width - width
    lefts = [round(room * max(0, at - FRAMES // 2) / (FRAMES // 2)) for at in range(FRAMES)]
    return [image.crop((left, 0, left + width, height)) for left in lefts]


def _jpeg(image: Image.Image) -> bytes:
    sink = io.BytesIO()
    image.save(sink, "JPEG", quality=90)
    return sink.getvalue()


def _listed(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text(json.dumps(rows, indent=1))
    return path
