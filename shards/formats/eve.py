"""What EVEv2's trainer loads: conversations as JSON beside picture files, with its two lists of lengths.

Its loader opens pictures with Pillow, catches nothing and wants exactly two turns of a plain sample
(github.com/baaivision/EVE, EVEv2/train.py: LazySupervisedDataset).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import IO, Any, ClassVar

from captioner.prompts import prompt
from shards.outgoing import AHEAD, Outgoing, runs_of, with_media
from shards.store import Building, Store

QUESTION = prompt("describe-in-detail-1")
IMAGE = "<image>"
PICTURE_WORDS = 2500  # what the trainer's own lists count a picture as, whatever its size
LENGTHS, BY_KIND = "conversation_presave_lengths.json", "conversation_presave_modality_lengths.json"


class JsonLists:
    """JSON lists that grow in files of a store and appear whole, all of them at the end."""

    def __init__(self, to: Store, names: tuple[str, ...]) -> None:
        self._to, self._names = to, names
        self._open = ExitStack()
        self._files: list[Building] = []
        self._count = 0

    def __enter__(self) -> JsonLists:
        self._files = [self._open.enter_context(self._to.building(name)) for name in self._names]
        return self

    def add(self, *values: Any) -> None:
        """One more value to each list, in the order of their names."""
        for each, value in zip(self._files, values, strict=True):
            _line(each.file, "[" if not self._count else ",", value)
        self._count += 1

    def publish(self) -> None:
        for each in self._files:
            each.file.write(b"\n]\n" if self._count else b"[]\n")
            each.publish()

    def __exit__(self, *exc: Any) -> None:
        self._open.close()


def _line(file: IO[bytes], before: str, value: Any) -> None:
    file.write(f"{before}\n{json.dumps(value, ensure_ascii=False)}".encode())


def talk(sample: Outgoing, question: str) -> dict[str, Any]:
    """A sample as a conversation: `{id, image | video, conversations: [{from, value}, {from, value}]}`.

    The path is one inside `images/` or `videos/`.
    """
    turns = [{"from": "human", "value": f"{IMAGE}\n{question}"}, {"from": "gpt", "value": sample.caption}]
    return {"id": sample.name, sample.kind: f"{sample.name}.{sample.extension}", "conversations": turns}


def words_of(conversation: dict[str, Any]) -> int:
    """Words as the trainer's lists count them, those of the question included."""
    return sum(len(turn["value"].split()) for turn in conversation["conversations"])


@dataclass(frozen=True, slots=True, kw_only=True)
class EveJson:
    """One JSON list, `eve.json`, for --data_path, with `images/` for --image_folder; presave lists beside it."""

    clips: ClassVar[bool] = False
    version: ClassVar[int] = 1
    question: str = QUESTION
    """What the human asks; the plain template of the first stages throws it away."""

    def write(self, samples: Iterator[Outgoing], to: Store) -> None:
        """As Format."""
        with JsonLists(to, ("eve.json", LENGTHS, BY_KIND)) as lists:
            for sample in with_media(samples, to):
                conversation = talk(sample, self.question)
                lists.add(conversation, *lengths_of(conversation))
            lists.publish()


@dataclass(frozen=True, slots=True, kw_only=True)
class EveIndex:
    """A list of names, `eve.json`, for --data_path, and a small JSON file a sample under `json/` for --json_path: for
    corpora whose one list would not fit the memory of every rank."""

    clips: ClassVar[bool] = False
    version: ClassVar[int] = 1
    question: str = QUESTION
    """What the human asks; the plain template of the first stages throws it away."""

    def write(self, samples: Iterator[Outgoing], to: Store) -> None:
        """As Format."""
        with JsonLists(to, ("eve.json", LENGTHS, BY_KIND)) as lists:
            for some in runs_of(with_media(samples, to), AHEAD):
                folders = {f"json/{each.name.rpartition('/')[0]}/" for each in some}
                there = {name for folder in folders for name in to.names(folder)}
                for sample in some:
                    conversation, name = talk(sample, self.question), f"{sample.name}.json"
                    if f"json/{name}" not in there:
                        to.create(f"json/{name}", json.dumps(conversation, ensure_ascii=False).encode())
                    lists.add(name, *lengths_of(conversation))
            lists.publish()


def lengths_of(conversation: dict[str, Any]) -> tuple[int, int]:
    """(what a sample counts in the list of lengths, and in the list that tells pictures from text by its sign)."""
    words = words_of(conversation)
    return words + PICTURE_WORDS, words
