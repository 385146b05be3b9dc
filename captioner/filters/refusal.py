"""Drops captions in which the engine declines to describe the picture."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

from captioner.filters.text import judged, outside_quotes
from captioner.types import Caption, Sample

_LOOKING = (
    "help|assist|provide|describe|see|view|access|identify|process|fulfill|comply|analy[sz]e|generate|create|caption"
    "|recognize|open|load|interpret|display|discuss|engage|tell you|answer|complete|continue|directly|actually"
)
_PICTURE = "(?:image|picture|photo|photograph|video|file|attachment|content|request|url|link)"
_CANNOT = (
    r"(?:can'?t|cannot|can not|could ?n[o']?t|(?:won'?t|will not)(?: be able to)?"
    r"|(?:am |'m )(?:currently )?(?:unable|not able) to"
    r"|do(?: not|n't) have (?:the (?:ability|capability) to|access to))"
)
_SO = "(?:(?:really|so|very|truly) )?"
_BEGINS = r"(?:^|[.!?\n] ?)"

# Each pattern with words of which one must be there: a plain search for them is ten times as fast.
_PHRASES: tuple[tuple[tuple[str, ...], str], ...] = (
    (("sorry", "afraid"), rf"{_BEGINS}i(?:'m| am) {_SO}(?:sorry|afraid)[, ]+(?:but )?(?:that )?i ?{_CANNOT}"),
    (("sorry",), rf"{_BEGINS}sorry[,.]? (?:but )?i ?{_CANNOT}"),
    (("sorry",), rf"{_BEGINS}i(?:'m| am) {_SO}sorry[,.]? (?:but|for the|about the|i)\b"),
    (("i ", "i'm"), rf"\bi ?{_CANNOT} (?:\w+ ){{0,2}}?(?:{_LOOKING})\b"),
    (("i ", "i'm"), r"\bi ?(?:'m|am) (?:just |only )?(?:an? )?(?:text[- ]based|language model|ai\b|large language)"),
    (("as a",), r"\bas an? (?:\w+ ){0,2}?(?:ai|artificial intelligence|llm|language model|text-based)\b"),
    (
        ("unable", "not able"),
        rf"{_BEGINS}(?:currently )?(?:unable|not able) to (?:\w+ ){{1,3}}?(?:the|this|your|any|an) {_PICTURE}\b",
    ),
    (
        ("no ",),
        rf"\bno {_PICTURE} (?:(?:was|is|has been|seems to be) )?"
        r"(?:provided|attached|uploaded|available|given|found|included)\b",
    ),
    (
        ("please",),
        r"\bplease (?:provide|upload|share|attach|send|resend|re-upload) (?:me )?(?:with )?"
        rf"(?:the|an?|your|another|a valid) (?:\w+ ){{0,2}}?{_PICTURE}\b",
    ),
    (
        ("image", "picture", "photo", "video"),
        rf"\b{_PICTURE} (?:could not|cannot|can't|couldn't|did not|didn't|failed to|does not|doesn't) (?:be )?"
        r"(?:load|loaded|displayed|opened|processed|accessed|retrieved|viewed)\b"
        rf"|\bthe {_PICTURE} (?:is|was|seems to be) (?:not (?:available|accessible|provided)|unavailable)\b",
    ),
    (("see",), rf"\bi (?:do not|don't|didn't|did not|can't|cannot) (?:\w+ )?see (?:an?|any|the) {_PICTURE}\b"),
    (
        ("policy", "policies", "guidelines"),
        r"\b(?:violates?|against|breach(?:es)?|per|due to) (?:my|our|the|content|safety|openai) "
        r"(?:\w+ ){0,2}?(?:policy|policies|guidelines)\b",
    ),
    (("decline",), r"\bi (?:must|have to|will have to) decline\b"),
    (("rather not", "prefer not"), r"\bi(?:'d| would) (?:rather|prefer) not\b"),
    (("apologi",), r"\bi apologi[sz]e,? (?:but|for)\b|\bmy apologies, (?:but|i)\b"),
    (("comfortable",), r"\bi(?:'m| am) not comfortable\b"),
    (("抱歉", "对不起", "對不起", "遗憾"), r"(?:抱歉|对不起|對不起|很遗憾)[，,。]?\s?(?:但)?(?:我|作为|作為)"),
    (("我无法", "我無法", "我不能"), r"我(?:无法|無法|不能)(?:直接)?(?:查看|看到|描述|提供|识别|識別|访问|协助|处理)"),
    (("作为", "作為"), r"作[为為](?:一(?:个|個|名|款))?\s?(?:ai|人工智能|人工智慧|大?语言模型)"),
    (("申し訳",), r"申し訳(?:ありません|ございません)が"),
    (("できません",), r"(?:お手伝い|お答え|説明|対応)(?:は|することは)?できません"),
    (("죄송", "도와드릴"), r"죄송(?:합니다|하지만)|도와드릴 수 없"),
    (("lo siento", "lamento"), r"\b(?:lo siento|lamento)[,.]? (?:pero |mucho, )?(?:no puedo|como)\b"),
    (("désolé",), r"désolée?,? (?:mais )?je ne (?:peux|suis)"),
    (("leid",), r"\btut mir (?:sehr )?leid,? (?:aber )?(?:ich (?:kann|darf)|dabei)"),
    (("desculpe", "lamento", "sinto muito"), r"\b(?:desculpe|lamento|sinto muito),? (?:mas )?(?:eu )?não posso"),
    (("не могу",), r"(?:извините|к сожалению|простите),? (?:но )?я не могу"),
    (("mi dispiace",), r"\bmi dispiace,? (?:ma )?non posso"),
)
_COMPILED = tuple((words, re.compile(pattern)) for words, pattern in _PHRASES)
_APOSTROPHES = str.maketrans("’‘ʼ`", "''''")


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Declining in the engine's own voice, anywhere in a caption; a quoted sign that is sorry declines nothing."""

    version: ClassVar[int] = 1

    def __call__(self, sample: Sample, caption: Caption) -> str | None:
        return "refusal" if _phrases(caption.text) else None

    def signals(self, sample: Sample, caption: Caption) -> Mapping[str, float]:
        return {"refusal.phrases": float(_phrases(caption.text))}


@lru_cache(maxsize=8)
def _phrases(text: str) -> int:
    """How many different phrases of declining stand outside quotes."""
    own = outside_quotes(judged(text)).translate(_APOSTROPHES).lower()
    return sum(
        1 for words, pattern in _COMPILED if any(word in own for word in words) and pattern.search(own) is not None
    )
