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

_PICTURE = "(?:image|picture|photo|photograph|video|scene|frame|illustration|screenshot)"
_STARTS = (
    r"(?:^|[.!?:\n]\s?)(?:(?:now|please|first|briefly|carefully|concisely),? |(?:can|could|would|will) you (?:please )?"
    r"|how would you |in (?:\w+ ){1,3}?(?:sentences?|words?|paragraphs?|detail|english),? |your task is to "
    r"|(?:using|based on|given) (?:this|the|these) [^.,\n]{1,30}, |you (?:should|must|will|are asked to) "
    r"|i (?:want|need|would like) you to |i'd like you to )*"
)
_VERBS = (
    "describe|caption|explain|analy[sz]e|summari[sz]e|look (?:closely )?at|examine|narrate|portray|characteri[sz]e"
    "|clarify|elaborate on|expand on|break down|walk through|depict|detail|identify|list|tell (?:me|us)"
)
# What must be there for any of it: a plain search for them is ten times as fast.
_VERBS_PLAIN = (
    "describe", "caption", "explain", "analy", "summar", "look", "examine", "narrate", "portray", "characteri",
    "clarify", "elaborate", "expand on", "break down", "walk through", "depict", "detail", "identify", "list", "tell",
)  # fmt: skip
_ANSWER = "(?:caption|description|summary|paragraph|alt[- ]text|title|explanation|interpretation|overview)"
_BEGUN = (  # at a sentence's beginning
    rf"(?:{_VERBS}) (?:(?:to|for) (?:me|us) |in detail |about |in \w+ words )*"
    rf"(?:what|everything|this|the|these|following|given|every|all|any|each)\b[^.!?\n]{{0,80}}?\b{_PICTURE}\b",
    r"(?:give|provide|write|generate|create|produce|offer|render|share|present|compose|draft) (?:me |us )?"
    rf"(?:an?|the|one|some) [^.!?\n]{{0,60}}?\b{_ANSWER}s?\b",
    r"(?:write|compose|draft) (?:\w+ ){1,6}?(?:about|of|for|describing|that describes?) "
    rf"(?:this|the|an?|your) {_PICTURE}\b",
    r"(?:what|who|where|which|why|how|is there|are there|do you see)\b"
    rf"[^.!?\n]{{0,80}}?\b{_PICTURE}\b[^.!?\n]{{0,40}}\?",
    r"you are (?:an?|qwen|llava)\b[^.!?\n]{0,60}?"
    r"\b(?:assistant|captioner|annotator|expert|model|ai|alibaba cloud)\b",
    r"d(?:escrib[ea]|escrev[ae]|écri(?:s|vez)|escriv(?:i|ete|a)) "
    r"(?:en détail |en detalle |em detalhes |in dettaglio )?(?:est[ae]|la|el|cette|l'|ce|quest[ao]|il|[ao]) ?\w",
    r"(?:bitte )?beschreib(?:e|en sie) (?:bitte )?(?:dieses|das|diese) \w",
)
_ANYWHERE = (
    rf", (?:please )?(?:describe|caption) (?:this|the|all|every)[^.!?\n]{{0,40}}?\b{_PICTURE}\b",
    r"\banswer the question using |\ba chat between a curious |\bthe assistant gives helpful, detailed",
    r"\[(?:external information|world knowledge|detection box|ocr)\]",
    r"[请請](?!勿)[^。！？\n]{0,16}?(?:描述|说明|說明|写|寫|生成|解释|概括)[^。！？\n]{0,12}?(?:图|圖|照片|画面|视频|标题)",
    r"[请請][为為给給][^。！？\n]{0,8}?(?:图|圖|照片|画面|视频)",
    r"(?:この|次の|以下の)(?:画像|写真|動画)[^。\n]{0,20}(?:(?:説明|描写)して|教え|書い)",
    r"(?:이미지|사진|그림|영상)[^.\n]{0,20}(?:설명|묘사)(?:해|하)",
    r"опиши(?:те)? (?:подробно )?(?:это|эту|данн|изображ|картин|что)",
)
_INSTRUCTIONS = re.compile(rf"{_STARTS}(?:{'|'.join(_BEGUN)})|{'|'.join(_ANYWHERE)}")
_GATE = (
    *_VERBS_PLAIN, "caption", "description", "summar", "paragraph", "text", "title", "explanation", "interpretation",
    "overview", "wh", "how", "write", "there", "do you see", "you are", "[", "a chat between", "the assistant",
    "answer the question", "请", "請", "画像", "写真", "動画", "설명", "묘사", "beschreib", "опиши", "descr", "décri",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Echo:
    """prompt: the recipe's own prompt; a caption with any sentence of it, of five words or more, is its echo.

    Instructions of known shapes, such as "Describe this image in detail", count whatever the prompt is. A screen or
    a page that shows one is a quote, and quotes are left out.
    """

    version: ClassVar[int] = 2
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
    instructs = bool([word for word in _GATE if word in lower]) and _INSTRUCTIONS.search(lower) is not None
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
