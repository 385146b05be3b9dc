"""Filters: hostile captions go for their stated reason, honest ones of many styles stay."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.filters import FILTERS
from captioner.filters import repeats as repeats_of
from captioner.filters.characters import Characters
from captioner.filters.echo import Echo
from captioner.filters.length import Length
from captioner.filters.repetition import Repetition
from captioner.filters.text import count_words, outside_quotes, tokens
from captioner.filters.truncated import Truncated
from captioner.reasons import REASONS
from captioner.registry import build, part
from captioner.types import Caption, Filter, Measures, Sample
from tests.captions import GOOD, HONEST, HOSTILE, PROMPT

SAMPLE = Sample(key="0", kind="image", media=b"", meta={}, source_shard="a")
MEGABYTE = 10**6


def caption(text: str, finish_reason: str = "stop") -> Caption:
    return Caption(text=text, finish_reason=finish_reason)


def every_filter() -> list[Filter]:
    return [build(FILTERS, name, {"prompt": PROMPT} if name == "echo" else {}) for name in FILTERS]


def verdict(text: str) -> str | None:
    judged = caption(text)
    return next((reason for each in every_filter() if (reason := each(SAMPLE, judged))), None)


@pytest.mark.parametrize(("text", "reason"), HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_caption_goes_for_its_reason(text: str, reason: str) -> None:
    assert verdict(text) == reason


@pytest.mark.parametrize("text", HONEST, ids=range(len(HONEST)))
def test_an_honest_caption_stays(text: str) -> None:
    assert verdict(text) is None


def test_all_honest_captions_in_one_stay_too() -> None:
    assert Repetition()(SAMPLE, caption("\n\n".join(HONEST))) is None


@pytest.mark.parametrize("name", FILTERS)
def test_every_filter_has_a_version_and_measures_whether_it_drops_or_not(name: str) -> None:
    each = build(FILTERS, name, {})
    assert part(FILTERS, name).version >= 1 and isinstance(each, Measures)
    kept, dropped = (each.signals(SAMPLE, caption(text)) for text in (GOOD, ""))
    assert kept.keys() == dropped.keys() and all(key.startswith(f"{name}.") for key in kept)
    assert all(isinstance(value, float) for value in (*kept.values(), *dropped.values()))


def test_every_reason_used_here_is_in_the_closed_list() -> None:
    assert {reason for _, reason in HOSTILE} <= REASONS.keys()


@pytest.mark.parametrize("finish", ["length", "abort", "", "error", "content_filter"])
def test_a_caption_whose_engine_was_not_done_is_cut_however_it_ends(finish: str) -> None:
    assert Truncated()(SAMPLE, caption(GOOD, finish)) == "truncated_caption"


@given(st.integers(1, 128), st.integers(0, 2**32), st.integers(2, 40))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_a_loop_of_any_period_is_found_where_an_honest_text_goes_before(period: int, seed: int, alphabet: int) -> None:
    draw = random.Random(seed)
    pattern = [f"w{draw.randrange(alphabet)}x" for _ in range(period)]
    copies = max(3, -(-48 // period))
    assert Repetition()(SAMPLE, caption(f"{GOOD} {' '.join(pattern * copies)}")) == "repetitive_caption"


@given(st.integers(0, 2**32))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_words_drawn_from_many_never_look_repetitive(seed: int) -> None:
    draw = random.Random(seed)
    text = " ".join(f"w{draw.randrange(300)}" for _ in range(400)) + "."
    assert Repetition()(SAMPLE, caption(text)) is None


@given(st.text(max_size=400), st.sampled_from(["stop", "length", ""]))
@settings(max_examples=400, deadline=None, derandomize=True)
def test_any_text_is_judged_with_a_known_reason_and_twice_the_same(text: str, finish: str) -> None:
    for each in every_filter():
        first, again = each(SAMPLE, caption(text, finish)), each(SAMPLE, caption(text, finish))
        assert first == again and (first is None or first in REASONS)
        assert isinstance(each, Measures)
        assert all(value == value for value in each.signals(SAMPLE, caption(text, finish)).values())


@pytest.mark.parametrize(
    "unit",
    [
        "a",
        "a ",
        "! ",
        '"',
        "“a",
        " 'a",
        "<",
        "<a ",
        "[1,",
        "(1,2)",
        "\n",
        "。",
        "字",
        "i ",
        "\x00",
        "sorry ",
        "as a a ",
        "describe the a ",
        "\ufffd",
        "a-",
        ".",
        "<image",
        "ASSISTANT",
        "w x y z.",
    ],
)
def test_a_megabyte_of_anything_is_judged(unit: str) -> None:
    judged = caption(unit * (MEGABYTE // len(unit)))
    for each in every_filter():
        assert isinstance(each, Measures)
        each(SAMPLE, judged)
        each.signals(SAMPLE, judged)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A dog, a cat.", 4),
        ("The blue-and-white dog's ball", 4),
        ("棕色的狗", 2),
        ("棕色的狗子", 3),
        ("갈색 개가 있다", 3),
        ("สุนัขสีน้ำตาล", 4),
        ("एक भूरा कुत्ता", 3),
        ("... !!! 🐶", 0),
        ("3.5 litres", 3),
    ],
)
def test_words_are_counted_by_script(text: str, words: int) -> None:
    assert count_words(text) == words


def test_a_long_run_of_letters_is_told_apart_letter_by_letter() -> None:
    assert tokens("la" * 30) == ("l", "a") * 30


@pytest.mark.parametrize(
    ("text", "outside"),
    [
        ('It reads "no" and “yes”.', 'It reads "" and "".'),
        ("The dogs' toys and the cats' toys", "The dogs' toys and the cats' toys"),
        ("It says 'go on' twice", 'It says "" twice'),
        ("“All of it is quoted.”", "“All of it is quoted.”"),
        ('A stray " mark', 'A stray " mark'),
    ],
)
def test_what_stands_outside_quotes(text: str, outside: str) -> None:
    assert outside_quotes(text) == outside


def test_settings_out_of_range_are_refused_with_what_would_be_right() -> None:
    for make in (
        lambda: Length(min_words=0),
        lambda: Repetition(max_sentences=1.5),
        lambda: Repetition(loop_tokens=1),
        lambda: Repetition(max_compression=1),
        lambda: Truncated(whole=("stop", "length")),
        lambda: Characters(max_replacement=2),
    ):
        with pytest.raises(ValueError, match="would be right"):
            make()


def test_min_words_is_the_recipes_to_set() -> None:
    assert Length(min_words=2)(SAMPLE, caption("A dog.")) is None
    assert Length(min_words=3)(SAMPLE, caption("A dog.")) == "too_short"


def test_without_a_prompt_only_known_instructions_are_echoes() -> None:
    assert Echo()(SAMPLE, caption(PROMPT)) is None
    assert Echo(prompt=PROMPT)(SAMPLE, caption(PROMPT)) == "prompt_echo"


@settings(derandomize=True, max_examples=300)
@given(
    st.lists(
        st.sampled_from(["a", "b", "c", "1", "2", "3", "the", "red", "dog", "sits", "on", "狗", ",", "."]), max_size=60
    )
)
def test_what_says_nothing_twice_measures_as_the_long_way_does(words: list[str]) -> None:
    numbered = repeats_of.number_tokens(tuple(words))
    counts = repeats_of._lettered_counts(numbered)
    share = 1 - len(counts) / int(counts.sum()) if len(counts) else 0.0
    expected = repeats_of.longest_loop(numbered), share, repeats_of._top_share(counts, len(words))
    assert repeats_of._said_again(tuple(words)) == expected
