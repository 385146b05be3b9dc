"""Conversations to token ids and labels, as the released trainer writes them; pure functions.

`plain` (stages 1, 2.1): the picture, the caption, a newline; no system sentence, no end token; all of it supervised.
`qwen2` (stages 2.2, 3): not ChatML but Vicuna's form; answers and their end token supervised.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

IMAGE = "<image>"
IGNORE = -100
END = "<|im_end|>"
ASSISTANT = " ASSISTANT:"
# Vicuna v1's system sentence: what the published weights were trained to read, to the letter.
SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
# In a text these would act: as a picture, as the border of an answer, or (any <|...|> of Qwen) as a special token.
FORBIDDEN = re.compile(r"<image>| ASSISTANT:|<\|[^|<>]*\|>")

Tokenize = Callable[[str], list[int]]  # text to ids, special tokens read, none added


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    speaker: str  # "human" or "gpt"
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A stretch of text, or a picture, that is supervised or not."""

    text: str  # IMAGE alone stands for a picture
    supervised: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """What the model reads; ids and labels have the same length."""

    ids: list[int]
    labels: list[int]


def forbidden(text: str) -> str | None:
    """The first string in a caption or answer that may not be there, or None."""
    found = FORBIDDEN.search(text)
    return found.group() if found else None


def checked(text: str) -> str:
    if (found := forbidden(text)) is not None:
        raise ValueError(f"{found!r} in a text: it would be read as a mark of the template")
    return text


def plain(turns: list[Turn]) -> list[Piece]:
    """Two turns: of the first only whether it has a picture counts, the second is the caption.

    Raises ValueError for another number of turns, for an empty caption or one with a mark of the template in it.
    """
    if [turn.speaker for turn in turns] != ["human", "gpt"]:
        raise ValueError(f"the plain template takes a human and a gpt turn, not {[turn.speaker for turn in turns]}")
    if not (caption := turns[1].text.strip()):
        raise ValueError("the caption is empty")
    picture = [Piece(text=IMAGE, supervised=False)] if IMAGE in turns[0].text else []
    return [*picture, Piece(text=checked(caption) + "\n", supervised=True)]


def asked(text: str) -> list[Piece]:
    """A question; its picture, wherever it stood and however often, once and at its front."""
    words = checked(text.replace(IMAGE, "").strip())
    if IMAGE not in text:
        return [Piece(text=words, supervised=False)]
    return [Piece(text=IMAGE, supervised=False), Piece(text="\n" + words, supervised=False)]


def qwen2(turns: list[Turn], system: str = SYSTEM) -> list[Piece]:
    """Rounds of a human and a gpt turn. Raises ValueError where the released code would mask the sample in silence."""
    speakers = [turn.speaker for turn in turns]
    if not turns or speakers != ["human", "gpt"] * (len(turns) // 2):
        raise ValueError(f"the qwen2 template takes turns of human and gpt, not {speakers}")
    pieces = [Piece(text=system + " ", supervised=False)]
    for question, answer in zip(turns[::2], turns[1::2], strict=True):
        if not answer.text.strip():
            raise ValueError("an answer is empty: it would teach to say nothing")
        pieces += [Piece(text="USER: ", supervised=False), *asked(question.text)]
        pieces += [Piece(text=ASSISTANT, supervised=False)]
        pieces += [Piece(text=f" {checked(answer.text)}{END}", supervised=True)]
    return pieces


TEMPLATES: dict[str, Callable[[list[Turn]], list[Piece]]] = {"plain": plain, "qwen2": qwen2}


def joined(pieces: list[Piece]) -> list[Piece]:
    """Neighbours alike become one piece, so that text is tokenised in as long stretches as the released code's."""
    whole: list[Piece] = []
    for piece in pieces:
        last = whole[-1] if whole else None
        if last and IMAGE not in (last.text, piece.text) and last.supervised == piece.supervised:
            whole[-1] = Piece(text=last.text + piece.text, supervised=piece.supervised)
        else:
            whole.append(piece)
    return whole


def encode(pieces: list[Piece], tokenize: Tokenize, picture_tokens: list[int], image_token_id: int) -> Example:
    """Ids and labels; picture k becomes `picture_tokens[k]` image tokens, which no label asks for.

    Raises ValueError if the pieces hold another number of pictures.
    """
    if (holds := sum(piece.text == IMAGE for piece in pieces)) != len(picture_tokens):
        raise ValueError(f"the text has {holds} pictures, the sample {len(picture_tokens)}")
    left, ids, labels = iter(picture_tokens), list[int](), list[int]()
    for piece in joined(pieces):
        new = [image_token_id] * next(left) if piece.text == IMAGE else tokenize(piece.text)
        ids += new
        labels += new if piece.supervised else [IGNORE] * len(new)
    return Example(ids=ids, labels=labels)
