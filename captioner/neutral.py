"""Text from outside, made harmless before it is sent: no special token, no role's turn and no control survives."""

from __future__ import annotations

import re
import unicodedata

# Tokens of every family stand in angle or square brackets (`<|im_start|>`, `</s>`, `[INST]`, `<｜User｜>`, `◁think▷`):
# without the brackets their names are words. Square ones also open the headings of our own block.
_BRACKETS = (("<", "‹"), (">", "›"), ("◁", "‹"), ("▷", "›"), ("[", "("), ("]", ")"), ("▁", " "))
# Vicuna, EVE and Llama-1 chats part turns by a name and a colon, in any place of a line.
_ROLES = re.compile(r"(user|assistant|system|human|gpt|bot|model|instruction|response|input)\s*:[\s:]*", re.IGNORECASE)
# Vicuna v0 parts turns by `###`.
_HASHES = re.compile(r"#{2,}")
# Default-ignorables that are no Cf: Hangul fillers, variation selectors, the grapheme joiner, Mongolian selectors.
_HIDDEN = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0000-\U000e0fff]")
_DROPPED = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})
# NFKC makes up to 18 characters of one, and most of a text is no more than spaces: cut before, and again after.
_LONGEST = 20_000


def neutral(text: str, at_most: int = 1000) -> str:
    """The text as one readable line of at most so many characters, cut between words.

    NFKC comes first, so that fullwidth look-alikes become what they look like and then lose their brackets too.
    Equal to itself when made neutral again.
    """
    line = _visible(unicodedata.normalize("NFKC", _visible(text[:_LONGEST])))
    for bracket, mark in _BRACKETS:
        line = line.replace(bracket, mark)
    line = " ".join(line.split())
    if ":" in line:
        line = _ROLES.sub(r"\1 - ", line)
    line = unicodedata.normalize("NFKC", _HASHES.sub("#", line) if "##" in line else line)
    return _cut(" ".join(line.split()), at_most)


def _visible(text: str) -> str:
    """The text without surrogates, unassigned, private and invisible characters; controls that are space are space."""
    if text.isascii() and text.isprintable():
        return text
    kept = (" " if each.isspace() else each for each in _HIDDEN.sub("", text))
    return "".join(each for each in kept if unicodedata.category(each) not in _DROPPED)


def _cut(line: str, at_most: int) -> str:
    """The first words that fit; the beginning of the first word where even that does not."""
    if len(line) <= at_most:
        return line
    words, _, _ = line[: at_most + 1].rpartition(" ")
    return (words or line[:at_most]).rstrip()
