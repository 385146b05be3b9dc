"""Screens: each drops for its own reason, exactly past its limit, and says what settings would be right."""

from __future__ import annotations

import math
from typing import Any

import pytest

from captioner.errors import Refused
from captioner.filters import SCREENS
from captioner.filters.aspect import Aspect
from captioner.filters.bytes import Bytes
from captioner.filters.format import Format
from captioner.filters.pixels import Pixels
from captioner.filters.resolution import Resolution
from captioner.filters.scores import Scores
from captioner.media.header import READABLE, read_header
from captioner.reasons import REASONS
from captioner.registry import build, part
from captioner.types import Header, Sample


def sample(media: bytes = b"", **meta: Any) -> Sample:
    return Sample(key="0", kind="image", media=media, meta=meta, source_shard="a")


def sized(width: int, height: int, name: str = "jpeg") -> Header:
    return Header(format=name, width=width, height=height)


@pytest.mark.parametrize(
    ("width", "height", "mode", "kept"),
    [
        (513, 513, "both", True),
        (512, 512, "both", False),
        (512, 4000, "both", False),
        (4000, 512, "both", False),
        (512, 512, "short", True),
        (511, 4000, "short", False),
        (256, 1025, "area", True),
        (512, 512, "area", False),
        (1, 262_145, "area", True),
        (0, 0, "both", False),
        (0, 9000, "short", False),
    ],
)
def test_resolution_keeps_what_its_mode_says(width: int, height: int, mode: Any, kept: bool) -> None:
    assert Resolution(mode=mode)(sample(), sized(width, height)) == (None if kept else "below_min_resolution")


def test_densefusions_short_edge_of_448_stays() -> None:
    screen = Resolution(more_than=448, mode="short")
    assert screen(sample(), sized(448, 900)) is None
    assert screen(sample(), sized(447, 900)) == "below_min_resolution"


def test_nothing_is_still_too_small_when_any_size_will_do() -> None:
    screen = Resolution(more_than=0, mode="short")
    assert screen(sample(), sized(1, 1)) is None
    assert screen(sample(), sized(0, 0)) == "below_min_resolution"


@pytest.mark.parametrize(
    ("width", "height", "kept"),
    [(500, 100, True), (100, 500, True), (501, 100, False), (100, 501, False), (1, 10_000, False), (7, 0, False)],
)
def test_aspect_keeps_up_to_five_to_one_either_way(width: int, height: int, kept: bool) -> None:
    assert Aspect()(sample(), sized(width, height)) == (None if kept else "extreme_aspect")


def test_pixels_are_counted_from_the_header_alone() -> None:
    assert Pixels()(sample(), sized(10_000, 10_000)) is None
    assert Pixels()(sample(), sized(10_000, 10_001)) == "too_many_pixels"
    assert Pixels()(sample(), sized(2**31, 2**31, "png")) == "too_many_pixels"


def test_bytes_are_those_of_the_stored_media() -> None:
    assert Bytes(at_most=3)(sample(b"123"), sized(1, 1)) is None
    assert Bytes(at_most=3)(sample(b"1234"), sized(1, 1)) == "too_many_bytes"


def test_every_readable_format_is_allowed_and_no_other() -> None:
    for name in READABLE:
        assert Format()(sample(), sized(9, 9, name)) is None
    for media in (b"%PDF-1.7", b"<svg/>", b"8BPS\0\1", b"\0\0\0\x18ftypheic"):
        assert Format()(sample(media), read_header(media)) == "unsupported_format"
    assert Format(allow=("png",))(sample(), sized(9, 9)) == "unsupported_format"


SCORED = {"similarity": 0.2, "punsafe": 0.9, "pwatermark": 0.8}


@pytest.mark.parametrize(
    ("limits", "meta", "reason"),
    [
        ({}, SCORED, None),
        ({"min_similarity": 0.28}, SCORED, "low_similarity"),
        ({"min_similarity": 0.2}, SCORED, None),
        ({"max_punsafe": 0.5}, SCORED, "unsafe_score"),
        ({"max_pwatermark": 0.5}, SCORED, "watermark_score"),
        ({"max_punsafe": 0.9, "max_pwatermark": 0.8}, SCORED, None),
        ({"min_similarity": 0.28, "max_punsafe": 0.5, "max_pwatermark": 0.5}, {}, None),
        ({"min_similarity": 0.28}, {"similarity": math.nan}, None),
        ({"min_similarity": 0.28}, {"similarity": "0.1"}, None),
        ({"min_similarity": 0.28}, {"similarity": None}, None),
        ({"min_similarity": 0.28}, {"similarity": True}, None),
        ({"max_punsafe": 0.5}, {"punsafe": 10**400}, None),
        ({"max_punsafe": 0.5}, {"punsafe": math.inf}, None),
        ({"max_punsafe": 0}, {"punsafe": 1}, "unsafe_score"),
    ],
)
def test_scores_ask_only_for_what_is_set_and_what_is_there(limits: Any, meta: Any, reason: str | None) -> None:
    assert Scores(**limits)(sample(**meta), sized(9, 9)) == reason


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("format", {"allow": ("jpg",)}),
        ("format", {"allow": ()}),
        ("bytes", {"at_most": 0}),
        ("pixels", {"at_most": -1}),
        ("resolution", {"more_than": -1}),
        ("resolution", {"mode": "long"}),
        ("aspect", {"at_most": 0.5}),
        ("aspect", {"at_most": math.nan}),
        ("scores", {"max_punsafe": 1.5}),
        ("scores", {"min_similarity": -2}),
        ("scores", {"max_pwatermark": math.nan}),
    ],
)
def test_a_setting_out_of_range_is_refused_with_what_would_be_right(name: str, setting: Any) -> None:
    with pytest.raises(Refused, match=r"would be right|there is"):
        build(SCREENS, name, setting)


@pytest.mark.parametrize("name", SCREENS)
def test_every_screen_has_a_version_and_passes_a_good_picture(name: str) -> None:
    assert part(SCREENS, name).version >= 1
    assert build(SCREENS, name, {})(sample(b"x"), sized(800, 600)) is None


def test_the_reasons_of_screens_lead_to_filtered() -> None:
    reasons = {"below_min_resolution", "extreme_aspect", "too_many_bytes", "too_many_pixels", "unsupported_format"}
    reasons |= {"low_similarity", "unsafe_score", "watermark_score"}
    assert {REASONS[reason].outcome for reason in reasons} == {"filtered"}
