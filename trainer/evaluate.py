"""Does a text fit its picture? The loss of captions, and whether the model tells a picture's own from others'."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from captioner.errors import MediaError, Refused
from trainer.answer import Speaker
from trainer.data.entries import Entry, Feed, Planned, Reader, Unfit
from trainer.data.pixels import frames, normalised
from trainer.templates import IMAGE


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Of one kind of text. loss: nats a token with the picture, `blind`: without it.

    text_of_picture, picture_of_text: the share of pairs whose own partner fits best among `group` of them; chance is
    1 / group. A text's fit is its loss less its loss without a picture, so that plain short texts win nothing.
    """

    pairs: int
    group: int
    loss: float
    blind: float
    text_of_picture: float
    picture_of_text: float


def held_out(feed: Feed, reader: Reader, limit: int) -> Iterator[Planned]:
    """The feed's samples that training left out, in stored order; at most `limit`."""
    count = 0
    for part in feed.parts:
        for entry in part.entries(0, part.samples):
            try:
                planned = reader.plan(entry)
            except Unfit:
                continue
            if planned.grid is not None and (count := count + 1) <= limit:
                yield planned
            if count >= limit:
                return


def score(feed: Feed, reader: Reader, speaker: Speaker, limit: int, group: int) -> Score:
    """Over whole groups of held-out pairs. Raises Refused if there is not one."""
    seen = list(pictured(held_out(feed, reader, limit), reader.patch))
    groups = [seen[at : at + group] for at in range(0, len(seen) - group + 1, group)]
    if not groups:
        raise Refused(f"{feed.name}: {len(seen)} pairs to judge by, and a group is {group}: give --hold-out or --limit")
    losses, blinds, own_texts, own_pictures = [], [], 0, 0
    for each in groups:
        fits, loss, blind = judged(each, reader, speaker)
        losses, blinds = [*losses, *loss], [*blinds, *blind]
        at = torch.arange(group)
        own_texts += int((fits.argmin(1) == at).sum())
        own_pictures += int((fits.argmin(0) == at).sum())
    pairs = len(groups) * group
    return Score(
        pairs=pairs,
        group=group,
        loss=sum(losses) / pairs,
        blind=sum(blinds) / pairs,
        text_of_picture=own_texts / pairs,
        picture_of_text=own_pictures / pairs,
    )


def pictured(samples: Iterator[Planned], patch: int) -> Iterator[tuple[Planned, Tensor]]:
    """Those whose pictures decode."""
    for sample in samples:
        try:
            seen = frames(sample, patch)
        except MediaError:
            continue
        if seen is not None:
            yield sample, seen


def judged(
    pairs: Sequence[tuple[Planned, Tensor]], reader: Reader, speaker: Speaker
) -> tuple[Tensor, list[float], list[float]]:
    """fits (pictures, texts) of a group, and of each pair its loss with and without its picture."""
    blind = torch.tensor([loss_of(words_only(text.entry, reader), None, speaker) for text, _ in pairs])
    rows = []
    for shown, seen in pairs:
        one_row = [loss_of(with_picture_of(text.entry, shown.entry, reader), seen, speaker) for text, _ in pairs]
        rows.append(torch.tensor(one_row))
    losses = torch.stack(rows)
    return losses - blind, losses.diagonal().tolist(), blind.tolist()


def with_picture_of(text: Entry, shown: Entry, reader: Reader) -> Planned:
    entry = Entry(key=text.key, turns=text.turns, sha256=text.sha256, size=shown.size, frames=shown.frames)
    return reader.plan(entry)


def words_only(text: Entry, reader: Reader) -> Planned:
    """The same conversation, its picture left out."""
    turns = tuple(replace(turn, text=turn.text.replace(IMAGE, "").lstrip("\n")) for turn in text.turns)
    return reader.plan(Entry(key=text.key, turns=turns, sha256=text.sha256))


@torch.inference_mode()
def loss_of(sample: Planned, seen_F3HW: Tensor | None, speaker: Speaker) -> float:
    """Nats a token."""
    pictures = []
    if seen_F3HW is not None:
        shown = normalised(seen_F3HW.to(speaker.device), speaker.model.dtype)
        pictures = [shown[0] if speaker.manners.family == "eve-v2" else shown]
    ids = torch.tensor([sample.example.ids], device=speaker.device)
    labels = torch.tensor([sample.example.labels], device=speaker.device)
    out = speaker.model(ids, pixel_values=pictures, labels=labels)
    return float(out.loss)
