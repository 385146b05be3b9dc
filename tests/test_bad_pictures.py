"""Bad pictures through header, screens and real decoder processes: each has its stated reason, quickly."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from captioner.errors import MediaError
from captioner.filters import SCREENS
from captioner.media.decoders import DecoderPool
from captioner.media.header import read_header
from captioner.reasons import REASONS
from captioner.recipe import Limits
from captioner.registry import build
from captioner.types import PixelBudget, Sample
from tests.pictures import BAD_PICTURES, Bad, made, of

BUDGET = PixelBudget(max_pixels=200_000, multiple_of=28)
SCREENING = [build(SCREENS, name, {}) for name in SCREENS]
MOST_SECONDS = 2.0


@pytest.fixture(scope="module")
def decoding() -> Iterator[tuple[asyncio.Runner, DecoderPool]]:
    with asyncio.Runner() as runner:
        pool = DecoderPool(1, Limits())
        runner.run(pool.__aenter__())
        yield runner, pool
        runner.run(pool.__aexit__())


def outcome(media: bytes, runner: asyncio.Runner, pool: DecoderPool) -> tuple[str, str]:
    """(reason, our words), as the line finds them; `captioned` for a picture that would reach the engine."""
    sample = Sample(key="0", kind="image", media=media, meta={}, source_shard="a")
    try:
        header = read_header(media)
        reason = next((reason for screen in SCREENING if (reason := screen(sample, header))), None)
        if reason is None:
            runner.run(pool.decode(media, BUDGET))
    except MediaError as error:
        return error.reason, error.detail
    return reason or "captioned", ""


@pytest.mark.parametrize("bad", BAD_PICTURES, ids=lambda bad: f"{bad.case}: {bad.name}")
def test_a_bad_picture_has_its_reason(bad: Bad, decoding: tuple[asyncio.Runner, DecoderPool]) -> None:
    media = made(bad)
    began = time.perf_counter()
    reason, detail = outcome(media, *decoding)
    assert (reason, time.perf_counter() - began < MOST_SECONDS) == (bad.reason, True), detail
    assert "0x" not in detail and "<" not in detail and "Traceback" not in detail


def test_there_are_sixty_of_them_and_more_with_known_reasons() -> None:
    assert len(BAD_PICTURES) >= 60
    assert {bad.reason for bad in BAD_PICTURES} <= REASONS.keys()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_the_picture_they_are_made_of_is_good(kind: str, decoding: tuple[asyncio.Runner, DecoderPool]) -> None:
    assert outcome(of(kind), *decoding) == ("captioned", "")
