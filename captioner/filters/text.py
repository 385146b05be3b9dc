"""What filters know of a text, each thing computed once: tokens, words, sentences, what stands outside quotes."""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache

# Scripts written without spaces between words. Two characters make a word of Chinese or Japanese
# (Chinese words have 1.5 to 1.8 on average), four a word of Thai, Lao, Burmese or Khmer.
HAN_KANA = "\u3005\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
THAI_KIN = "\u0e00-\u0e7f\u0e80-\u0eff\u1000-\u109f\u1780-\u17ff"
# White space, controls and marks of every script, spelled out: a class without \\s in it matches twice as fast.
_MARKS = (
    "\\0-/:-@\\[-`{-~\u007f-\u00a9\u00ab-\u00b4\u00b6-\u00b9\u00bb-\u00bf\u00d7\u00f7"
    "\u0589\u05be\u060c\u061b\u061f\u06d4\u0964\u0965\u1361-\u1368\u1680\u2000-\u206f\u20a0-\u20cf\u2190-\u2bff"
    "\u3000-\u3004\u3006-\u303f\ufe00-\ufe0f\ufe10-\ufe6f\uff00-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65"
    "\ufff0-\uffff\U0001f000-\U0001faff"
)
_LETTER = f"[^{_MARKS}{HAN_KANA}{THAI_KIN}]"
_TOKEN = re.compile(rf"{_LETTER}+(?:['’\-]{_LETTER}+)*|\S")
_TWO_A_WORD = re.compile(f"[{HAN_KANA}]")
_FOUR_A_WORD = re.compile(f"[{THAI_KIN}]")
_SPACED_WORD = re.compile(_LETTER)

# No word of a dictionary is longer: what is, is a loop without spaces, and is told apart letter by letter.
LONGEST_WORD = 40
# A sign or a title is shorter than this; a "quote" over it is a caption in quotes, or a stray mark.
LONGEST_QUOTE = 300


# An engine's longest caption is a tenth of this. Of a longer text both ends are judged, so that time stays bounded.
LONGEST_JUDGED = 2**16


@lru_cache(maxsize=8)
def judged(text: str) -> str:
    """The text itself, or the first and last 32 Ki characters of one over 64 Ki."""
    if len(text) <= LONGEST_JUDGED:
        return text
    return text[: LONGEST_JUDGED // 2] + "\n" + text[-LONGEST_JUDGED // 2 :]


@lru_cache(maxsize=8)
def tokens(text: str) -> tuple[str, ...]:
    """Words, numbers, single characters of scripts without spaces, and single marks, in lower case, in order."""
    found: list[str] = _TOKEN.findall(text.lower())
    if len(max(found, key=len, default="")) <= LONGEST_WORD:
        return tuple(found)
    return tuple(piece for token in found for piece in (token if len(token) > LONGEST_WORD else (token,)))


@lru_cache(maxsize=8)
def count_words(text: str) -> int:
    """Words between spaces and marks; two Han or kana, or four Thai, Lao, Burmese or Khmer characters, are one."""
    two = four = spaced = 0
    for token, count in Counter(tokens(text)).items():
        if token.isascii():
            spaced += count * token[0].isalnum()
        elif _TWO_A_WORD.match(token):
            two += count
        elif _FOUR_A_WORD.match(token):
            four += count
        elif _SPACED_WORD.match(token):
            spaced += count
    return spaced + (two + 1) // 2 + (four + 3) // 4


_SENTENCE_ENDS = re.compile(r"(?:[!?。！？｡।…\n]|\.(?=\s|$))+")


def sentences(text: str) -> list[str]:
    """Sentences and lines, without their closing marks and outer spaces, in lower case."""
    return [sentence.strip() for sentence in _SENTENCE_ENDS.split(text.lower())]


def _quoted(opening: str, closing: str) -> str:
    return f"{opening}[^{opening}{closing}\\n]{{1,{LONGEST_QUOTE}}}{closing}"


# Every alternative begins with its own mark, so that the search skips to the next one of them.
_QUOTED = re.compile(
    "|".join(_quoted(*pair) for pair in ('""', "“”", "„“", "«»", "「」", "『』", "《》", "‹›"))
    + rf"|'(?<!\w')[^'\n]{{1,{LONGEST_QUOTE}}}'(?!\w)|‘(?<!\w‘)[^‘\n]{{1,{LONGEST_QUOTE}}}?’(?!\w)"
)
_MARKS_OF_QUOTES = frozenset("\"“”„«»「」『』《》‹›'‘’")


@lru_cache(maxsize=8)
def outside_quotes(text: str) -> str:
    """The text with every quoted sign or title as `""`: a sign may say what a caption may not.

    A text that is quoted as a whole quotes nobody: it is returned as it is.
    """
    if _MARKS_OF_QUOTES.isdisjoint(text):
        return text
    outside = _QUOTED.sub('""', text)
    return outside if _SPACED_WORD.search(outside) or _TWO_A_WORD.search(outside) else text
