"""The filters hold their aims on texts that no threshold was tuned on."""

from __future__ import annotations

from functools import lru_cache

import pytest

from captioner.filters import FILTERS
from captioner.reasons import REASONS
from tests.labels import HALVES, REASON_OF, Score, scores, stored
from tests.mutations import labelled

LEAST_PRECISION, LEAST_RECALL = 0.99, 0.95


@lru_cache
def held_out() -> dict[str, Score]:
    return scores(labelled("held_out"))


def told(texts: list) -> str:
    return "\n".join(repr(text.text[:300]) for text in texts[:5])


@pytest.mark.parametrize("reason", REASON_OF.values())
def test_every_reason_holds_its_aims_on_held_out_texts(reason: str) -> None:
    score = held_out()[reason]
    assert score.found + len(score.missed) >= 100
    assert score.precision >= LEAST_PRECISION, told(score.wrong)
    assert score.recall >= LEAST_RECALL, told(score.missed)


def test_honest_held_out_captions_stay() -> None:
    texts = [text for text in labelled("held_out") if text.reason is None]
    dropped = {text.text for score in held_out().values() for text in score.wrong if text.reason is None}
    assert len(texts) >= 900 and len(dropped) <= 0.01 * len(texts)


def test_the_halves_share_no_text_and_know_every_filter() -> None:
    tuning, held = ({text.text for text in stored(half)} for half in HALVES)
    assert not tuning & held
    assert REASON_OF.keys() == FILTERS.keys() and set(REASON_OF.values()) <= REASONS.keys()


def test_the_same_seed_makes_the_same_texts() -> None:
    assert labelled("tuning") == labelled("tuning")
