"""What LLaVA's family of trainers loads: conversations as one JSON list, or as Parquet with the pictures inside."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa

from shards.formats.eve import QUESTION, JsonLists, talk
from shards.formats.tables import Tables
from shards.outgoing import Outgoing, runs_of, with_media
from shards.store import Store

CONVERSATIONS = pa.list_(pa.struct([("from", pa.string()), ("value", pa.string())]))
SCHEMA = pa.schema(
    [("id", pa.string()), ("image", pa.binary()), ("conversations", CONVERSATIONS), ("data_source", pa.string())]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LlavaJson:
    """One JSON list, `llava.json`, of `{id, image | video, conversations}`; paths begin at the export's folder."""

    clips: ClassVar[bool] = True
    version: ClassVar[int] = 1
    question: str = QUESTION
    """What the human asks."""

    def write(self, samples: Iterator[Outgoing], to: Store) -> None:
        """As Format."""
        with JsonLists(to, ("llava.json",)) as lists:
            for sample in with_media(samples, to):
                conversation = talk(sample, self.question)
                conversation[sample.kind] = sample.path
                lists.add(conversation)
            lists.publish()


@dataclass(frozen=True, slots=True, kw_only=True)
class LlavaParquet:
    """Parquet as LLaVA-ReCap's: `id, image (bytes), conversations, data_source`, so many rows a file."""

    clips: ClassVar[bool] = False
    version: ClassVar[int] = 1
    question: str = QUESTION
    """What the human asks."""
    samples_a_file: int = 10_000
    """Rows of a file."""

    def write(self, samples: Iterator[Outgoing], to: Store) -> None:
        """As Format."""
        tables = Tables(to=to, schema=SCHEMA, prefix="data/")
        for number, some in enumerate(runs_of(samples, self.samples_a_file)):
            tables.write(number, (self._row(each) for each in some))

    def _row(self, sample: Outgoing) -> dict[str, Any]:
        return {
            "id": sample.name,
            "image": sample.whole(),
            "conversations": talk(sample, self.question)["conversations"],
            "data_source": sample.row.source_shard,
        }
