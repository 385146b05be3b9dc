"""Labelled texts made by rules with a seed: loops, cuts, tokens, echoes, and honest lists that only look like loops."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

from tests.grammars import HONEST_MAKERS
from tests.labels import Half, Labelled, stored
from tests.wordings import FAMILIES, Wordings

SEEDS: dict[Half, int] = {"tuning": 20_261, "held_out": 77_013}
OPEN_ENDED = frozenset({"truncated_caption"})
# What stood in quotes is the engine's own word once their end is cut off.
UNQUOTED = frozenset({"refusal", "prompt_echo", "markup"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What one half is made of: its own dice, honest captions and wordings; nothing of it is in the other half."""

    dice: random.Random
    honest: tuple[Labelled, ...]
    words: Wordings

    def spaced(self) -> str:
        """An honest caption with spaces between its words."""
        while True:
            text = self.dice.choice(self.honest).text
            if text.isascii() and "\n" not in text:
                return text


def made(half: Half, scale: int = 1) -> Iterator[Labelled]:
    """Every rule's texts; scale multiplies how many."""
    honest = tuple(text for text in stored(half) if text.reason is None and text.origin == "written")
    for name, rule, count in RULES:
        dice = random.Random(f"{SEEDS[half]}/{name}")
        material = Material(dice=dice, honest=honest, words=FAMILIES[half])
        for _ in range(count * scale):
            yield replace(rule(material), style=f"made/{name}", origin="made")


def labelled(half: Half, scale: int = 1) -> list[Labelled]:
    """All of one half: what is stored, then what is made."""
    return [*stored(half), *made(half, scale)]


def _text(text: str, reason: str | None, also: frozenset[str] = frozenset(), **more: str) -> Labelled:
    return Labelled(text=text, reason=reason, style="", origin="", also=also, **more)


# honest


def two_captions(m: Material) -> Labelled:
    """Two or three captions in one are a long caption."""
    count = m.dice.choice((2, 2, 3))
    return _text(m.dice.choice((" ", "\n\n")).join(each.text for each in m.dice.sample(m.honest, count)), None)


def quoted(m: Material) -> Labelled:
    """What a sign or a screen says is not what the engine says."""
    frame = m.dice.choice(m.words.quoting)
    return _text(frame.replace("{}", m.dice.choice(m.words.quotable)), None)


def grammar(m: Material) -> Labelled:
    """Lists, counts, charts, menus, verses: one pattern said many times with other content."""
    return _text(m.dice.choice(HONEST_MAKERS[m.words.half])(m.dice), None)


# said again


def word_loop(m: Material) -> Labelled:
    """Three copies and 48 words at least, of any period up to 128, behind an honest beginning."""
    words = " ".join(m.dice.choice(m.honest).text for _ in range(12)).split()
    period = min(128, int(2 ** m.dice.uniform(0, 7.02)))
    start = m.dice.randrange(max(1, len(words) - period))
    pattern = words[start : start + period]
    copies = max(3, -(-48 // len(pattern))) + m.dice.randrange(6)
    ending = m.dice.choice(("", "", ".", f" {m.spaced()}"))
    return _text(f"{m.spaced()} {' '.join(pattern * copies)}{ending}", "repetitive_caption", OPEN_ENDED | UNQUOTED)


def letter_loop(m: Material) -> Labelled:
    """A piece of 1 to 24 characters, without a thought for words, for 200 characters or more."""
    text = m.dice.choice(m.honest).text
    start, size = m.dice.randrange(max(1, len(text) - 24)), m.dice.randint(1, 24)
    piece = text[start : start + size]
    piece = piece if piece.strip() else "a" + piece
    loop = piece * (200 // len(piece) + m.dice.randrange(40) + 3)
    return _text(m.spaced() + " " + loop, "repetitive_caption", OPEN_ENDED | UNQUOTED)


def sentence_loop(m: Material) -> Labelled:
    """A caption whose last sentence comes three to thirty times."""
    first, again = m.spaced(), m.spaced()
    joint = m.dice.choice((" ", "\n", "\n\n", "\n- "))
    return _text(joint.join([first, *[again] * m.dice.randint(3, 30)]), "repetitive_caption", OPEN_ENDED)


def said_twice(m: Material) -> Labelled:
    """The whole caption once more."""
    text = m.spaced()
    return _text(text + m.dice.choice((" ", "\n\n")) + text, "repetitive_caption", OPEN_ENDED)


def counter_loop(m: Material) -> Labelled:
    """The same item under rising numbers or letters."""
    item, count = m.dice.choice(m.words.items), m.dice.randint(8, 40)
    shape = m.dice.choice(m.words.counters)
    start = m.dice.choice((1, 1, 1, 2001))
    numbered = (shape.format(n=start + n, letter=chr(97 + n % 26), item=item) for n in range(count))
    joint = m.dice.choice((" ", "\n")) if shape[-1] in ".!" else "\n"
    return _text(f"{m.spaced()} {joint.join(numbered)}", "repetitive_caption", OPEN_ENDED)


def phrase_loop(m: Material) -> Labelled:
    """Phrases of scripts without spaces, ten times and more."""
    phrase = m.dice.choice(m.words.phrases)
    return _text(phrase * m.dice.randint(12, 60) + m.dice.choice(("", "。")), "repetitive_caption", OPEN_ENDED)


def junk_block(m: Material) -> Labelled:
    """Rows of marks and blank lines that never end."""
    block, count = m.dice.choice(m.words.junk), m.dice.randint(60, 200)
    return _text(f"{m.spaced()}\n{block * count}", "repetitive_caption", frozenset({*OPEN_ENDED, "markup"}))


def turning_loop(m: Material) -> Labelled:
    """The same sentence with one word changed, as a model that is stuck turns it: five times and more."""
    frame, count = m.dice.choice(m.words.turning), m.dice.randint(5, 16)
    said = (frame.format(m.dice.choice(m.words.fillers)) for _ in range(count))
    return _text(f"{m.spaced()} {' '.join(said)}", "repetitive_caption")


# cut


def cut_after_word(m: Material) -> Labelled:
    """Between two words, at the engine's own word that it was done."""
    words = m.spaced().split()
    places = [n for n in range(2, len(words)) if words[n - 1][-1].isalnum()]
    return _text(" ".join(words[: m.dice.choice(places)]), "truncated_caption", UNQUOTED | {"too_short"})


def cut_in_word(m: Material) -> Labelled:
    """Inside a word, in any script that writes full stops."""
    text = m.dice.choice([each.text for each in m.honest if max(each.text[:40]) < "\u0e00"])
    places = [n for n in range(12, len(text)) if text[n - 1].isalpha() and text[n].isalpha()]
    return _text(text[: m.dice.choice(places)], "truncated_caption", UNQUOTED | {"too_short"})


def cut_after_mark(m: Material) -> Labelled:
    """Behind a comma, a colon, an opening quote or bracket, a list's number or a dash."""
    text, mark = m.spaced().rstrip(".!?\"')"), m.dice.choice(m.words.open_marks)
    return _text(text + mark, "truncated_caption", UNQUOTED | {"repetitive_caption"})


def not_done(m: Material) -> Labelled:
    """An engine that says it was stopped is believed, however well the text ends."""
    finish = m.dice.choice(("length", "abort", "error", "content_filter", "", "max_tokens", "cancelled"))
    return replace(_text(m.dice.choice(m.honest).text, "truncated_caption"), finish_reason=finish)


# markup, characters, echoes, refusals, nothing


def token(m: Material) -> Labelled:
    """A reserved token of some model family at the beginning, the end or in between."""
    text, added = m.spaced(), m.dice.choice(m.words.tokens)
    at = m.dice.choice((0, len(text), text.find(" ", len(text) // 2)))
    joint = m.dice.choice(("", " ", "\n"))
    return _text(text[:at] + joint + added + joint + text[at:], "markup", frozenset({*OPEN_ENDED, "prompt_echo"}))


def turn(m: Material) -> Labelled:
    """The engine goes on with the next turn of a dialogue."""
    question = m.dice.choice(m.words.turns)
    also = frozenset({*OPEN_ENDED, "prompt_echo", "repetitive_caption"})
    return _text(f"{m.spaced()}{question.replace('{}', m.spaced())}", "markup", also)


def bad_character(m: Material) -> Labelled:
    """One character that no reader should meet."""
    text = m.spaced()
    at = m.dice.randrange(1, len(text))
    return _text(
        text[:at] + m.dice.choice(m.words.characters) + text[at:], "bad_characters", OPEN_ENDED | {"repetitive_caption"}
    )


def echo(m: Material) -> Labelled:
    """A sentence of the very prompt, before, behind or instead of the caption."""
    prompt = m.dice.choice(m.words.prompts)
    said = m.dice.choice([each for each in prompt.replace("\n", " ").split(". ") if each.count(" ") >= 4]).rstrip(".")
    shape = m.dice.choice(("{0}. {1}", "{1} {0}.", "{0}:\n{1}", "{0}.", "PROMPT: {0}. {1}", '"{0}." {1}'))
    shape = shape if not shape.startswith('"') else "{0}... {1}"
    also = frozenset({*OPEN_ENDED, "too_short", "repetitive_caption", "markup"})
    return replace(_text(shape.format(said, m.spaced()), "prompt_echo", also), prompt=prompt)


def instruction(m: Material) -> Labelled:
    """An instruction of a known shape where the prompt itself is not known."""
    verb, thing, tail = (m.dice.choice(part) for part in m.words.instructions)
    return _text(f"{verb} {thing}{tail} {m.spaced()}", "prompt_echo", OPEN_ENDED)


def refusal(m: Material) -> Labelled:
    """Declining, put together of an excuse, what it declines, and an offer."""
    excuse, declined, offer = (m.dice.choice(part) for part in m.words.refusing)
    before = m.dice.choice(("", "", "", f"{m.spaced()} "))
    return _text(f"{before}{excuse} {declined}.{offer}", "refusal", frozenset({"prompt_echo", "too_short"}))


def nothing(m: Material) -> Labelled:
    """No letter and no digit, or a thought that nobody was to see."""
    shape = m.dice.choice(("marks", "spaces", "thought"))
    also = frozenset({*OPEN_ENDED, "too_short", "markup", "repetitive_caption", "bad_characters", "refusal"})
    if shape == "thought":
        opening = m.dice.choice(("<think>", "<thinking>", "\n<think>\n"))
        return _text(
            f"{opening}{m.spaced()}{m.dice.choice(('', opening.strip().replace('<', '</')))}", "empty_caption", also
        )
    drawn = m.dice.choices(".,-!?*#\"'()[]…。、—" if shape == "marks" else " \n\t\u3000\xa0", k=m.dice.randint(0, 30))
    return _text("".join(drawn), "empty_caption", also)


def few_words(m: Material) -> Labelled:
    """One to seven words and a full stop."""
    words = [word.strip(".,;:!?\"'()[]") for word in m.spaced().split() if word.isalpha()]
    return _text(" ".join(words[: m.dice.randint(1, 7)]) + ".", "too_short")


RULES = (
    ("two_captions", two_captions, 150),
    ("quoted", quoted, 150),
    ("grammar", grammar, 500),
    ("word_loop", word_loop, 300),
    ("letter_loop", letter_loop, 120),
    ("sentence_loop", sentence_loop, 120),
    ("said_twice", said_twice, 60),
    ("counter_loop", counter_loop, 100),
    ("phrase_loop", phrase_loop, 60),
    ("junk_block", junk_block, 40),
    ("turning_loop", turning_loop, 80),
    ("cut_after_word", cut_after_word, 250),
    ("cut_in_word", cut_in_word, 250),
    ("cut_after_mark", cut_after_mark, 120),
    ("not_done", not_done, 60),
    ("token", token, 300),
    ("turn", turn, 80),
    ("bad_character", bad_character, 200),
    ("echo", echo, 200),
    ("instruction", instruction, 200),
    ("refusal", refusal, 300),
    ("nothing", nothing, 100),
    ("few_words", few_words, 100),
)
