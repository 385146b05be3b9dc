"""Drops captions that repeat their prompt instead of answering it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

from captioner.filters.text import judged, outside_quotes, sentences, tokens
from captioner.types import Caption, Sample

# "a picture of a" is in prompts and captions alike; five words in a prompt's own order are an instruction.
LEAST_WORDS = 5

_PICTURE = "(?:image|picture|photo|photograph|video|scene|frame|illustration)"
_STARTS = r"(?:^|[.!?:\n]\s?)(?:now,? |please,? |can you |could you |your task is to |you (?:should|must|will) )?"
_INSTRUCTIONS = re.compile(
    rf"{_STARTS}(?:describe|caption|explain|analy[sz]e|summari[sz]e|look at) "
    rf"(?:(?:to|for) (?:me|us) )?(?:in detail )?(?:what|everything|this|the|these|following|given|every|all)\b"
    rf"[^.!?\n]{{0,80}}?\b{_PICTURE}\b"
    rf"|{_STARTS}(?:give|provide|write|generate|create|produce) (?:me )?(?:an?|the) [^.!?\n]{{0,60}}?"
    rf"\b(?:caption|description|summary|paragraph)\b"
    rf"|{_STARTS}what (?:is|are|do you see|can you see|can be seen) [^.!?\n]{{0,40}}?\b{_PICTURE}\s?\?"
    rf"|{_STARTS}you are an? [^.!?\n]{{0,60}}?\b(?:assistant|captioner|annotator|expert|ai)\b"
    r"|\[(?:external information|world knowledge|detection box|ocr)\]"
    r"|(?:请|請)(?:你)?(?:用[^。\n]{0,10})?(?:详细|詳細|仔细)?(?:地)?(?:描述|说明)(?:一下)?(?:这|這|该|图)"
    r"|(?:この|次の)(?:画像|写真|動画)[^。\n]{0,20}(?:説明|描写)して"
)
_GATE = (
    "describe", "caption", "explain", "analy", "summar", "look at", "description", "paragraph", "what ", "you are",
    "[", "描述", "说明", "して",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Echo:
    """prompt: the recipe's own prompt; a caption with any sentence of it, of five words or more, is its echo.

    Instructions of known shapes, such as "Describe this image in detail", count whatever the prompt is. A screen or
    a page that shows one is a quote, and quotes are left out.
    """

    version: ClassVar[int] = 1
    prompt: str = ""

    def __call__(self, sample: Sample, caption: Caption) -> str | None:
        return "prompt_echo" if any(_echoes(self.prompt, caption.text)) else None

    def signals(self, sample: Sample, caption: Caption) -> Mapping[str, float]:
        said, instructs = _echoes(self.prompt, caption.text)
        return {"echo.prompt_sentences": float(said), "echo.instruction": float(instructs)}


@lru_cache(maxsize=8)
def _echoes(prompt: str, text: str) -> tuple[int, bool]:
    """(how many of the prompt's sentences stand in the text, whether it instructs as prompts do)."""
    own = outside_quotes(judged(text))
    lower = own.lower()
    instructs = any(word in lower for word in _GATE) and _INSTRUCTIONS.search(lower) is not None
    wanted = _prompt_sentences(prompt)
    if not wanted:
        return 0, instructs
    spoken = f" {_words_only(own)} "
    return sum(sentence in spoken for sentence in wanted), instructs


@lru_cache(maxsize=8)
def _prompt_sentences(prompt: str) -> tuple[str, ...]:
    normal = (_words_only(sentence) for sentence in sentences(prompt))
    return tuple(f" {sentence} " for sentence in normal if sentence.count(" ") + 1 >= LEAST_WORDS)


def _words_only(text: str) -> str:
    """The text's tokens without marks, so that punctuation and line breaks hide nothing."""
    return " ".join(token for token in tokens(text) if token.isalnum() or len(token) > 1)
