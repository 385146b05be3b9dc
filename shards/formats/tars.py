"""Tars of equal numbers of samples, by webdataset's own writer, with conversations as Infinity-MM has them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import webdataset

from shards.formats.eve import QUESTION, talk
from shards.outgoing import Outgoing, runs_of
from shards.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Tars:
    """`000000.tar` …, a sample's members `.jpg` (or what it is), `.txt` and `.json`: id, source, conversations, and
    where picture and caption come from. A corpus's own tars are webdataset's too, and as uneven as what was kept."""

    clips: ClassVar[bool] = True
    version: ClassVar[int] = 1
    question: str = QUESTION
    """What the human asks."""
    samples_a_file: int = 10_000
    """Samples of a tar."""

    def write(self, samples: Iterator[Outgoing], to: Store) -> None:
        """As Format."""
        there = set(to.names())
        for number, some in enumerate(runs_of(samples, self.samples_a_file)):
            name = f"{number:06d}.tar"
            if name in there:
                continue
            with to.building(name) as building:
                tar = webdataset.TarWriter(building.file, mtime=0, user="", group="", encoder=False, compress=False)
                for each in some:
                    tar.write(self._members(each))
                tar.close()
                building.publish()

    def _members(self, sample: Outgoing) -> dict[str, Any]:
        row, record = sample.row, talk(sample, self.question)
        told = {
            "id": record["id"],
            "source": row.source_shard,
            "conversations": record["conversations"],
            sample.kind: record[sample.kind],
            "key": row.key,
            "url": row.url,
            "sha256": row.sha256,
            "width": row.width,
            "height": row.height,
            "duration": row.duration,
            "original_caption": row.original_caption,
            "engine": row.engine,
            "model": row.model,
            "model_revision": row.model_revision,
            "prompt_id": row.prompt_id,
        }
        kept = {name: value for name, value in told.items() if value is not None}
        return {
            "__key__": sample.name,
            sample.extension: sample.whole(),
            "txt": sample.caption.encode(),
            "json": json.dumps(kept, ensure_ascii=False).encode(),
        }
