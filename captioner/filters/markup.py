"""Drops captions with special tokens, role names, tags or boxes: a trainer would take them for its own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

from captioner.filters.text import judged, outside_quotes
from captioner.types import Caption, Sample

# EVEv2's trainer replaces `<image>`, splits at ` ASSISTANT:`, pads with `<|endoftext|>`: quoted or not, they break
# a sample. The other tokens are what tokenizers of Llama, Mistral, GLM, InternLM, Gemma and DeepSeek reserve.
# Every alternative begins with its own character, so that the search skips to the next one of them; names are tried
# only where their closing bracket is near.
TOKENS = re.compile(
    r"""<(?:[|｜]\S | <SYS> | </SYS> | (?=[^\s<>]{1,40}>)(?:0x[0-9A-F]{2}>
      | /?(?:image|video|audio|img|s|bos|eos|pad|unk|mask|think|thinking|answer|tool_call|tool_response|box|ref|quad
          |bbox|loc|seg|region|grounding|phrase|object|point|im_start|im_end|im_patch|start_of_turn|end_of_turn
          |start_of_image|end_of_image|image_soft_token|fake_token_around_image|end_of_utterance|row|col|sep|cls
          |FRAME|LINE|sop|eop|eoa|eoh|eot|endofchunk)(?:_?\d{1,6})?/?>
      | /?(?:unused|reserved|extra_id|loc|seg|bin|image|frame|row)_?\w{0,20}\d>))
    | \[(?=[^\s\[\]]{1,30}\])(?:/?INST|IMG|IMG_END|IMG_BREAK|gMASK|sMASK|UNUSED_TOKEN_\d{1,6}|CLS|SEP|PAD|MASK|BOS|EOS
          |TOOL_CALLS|AVAILABLE_TOOLS|PREFIX|MIDDLE|SUFFIX|/?BOX|SYSTEM_PROMPT)\]
    | \|> | ｜> | ◁/?\w{1,12}▷ | ASSISTANT:""",
    re.VERBOSE,
)
# A tag has a name right behind its `<`: `<3`, `a < b` and `<-` have none.
_TAGS = re.compile(
    r"</?[A-Za-z][\w:.\-]{0,40}(?:\s[^<>]{0,300})?/?>|<!(?:--|DOCTYPE)|&(?:[a-z]{2,6}|#x?[0-9a-f]{1,6});"
)
_ROLES = re.compile(
    r"(?m)^[ \t]{0,8}(?:#{1,6}[ \t]?)?(?:USER|User|ASSISTANT|Assistant|HUMAN|Human|SYSTEM|System|GPT|BOT)[ \t]?:"
    r"|^[ \t]{0,8}#{1,6} ?(?:Instruction|Response|Question|Answer|Input|Output)s? ?:|^(?:user|assistant|system|model)$"
    r"|^Question: [^\n]{1,2000}\n{1,2}Answer:"
    r"|[.!?] {1,3}(?:User|Assistant|Human|System) ?:|(?<!\w)(?:USER|HUMAN|SYSTEM):[ \t]"
)
_NUMBER = r"\s{0,4}\d{1,5}(?:\.\d{1,6})?\s{0,4}"
# Charts have points like (3, 4); a box has px of three digits or shares of one: `(112,40),(560,700)`.
_LARGE = r"(?=[^\])]{0,40}?(?:\d{3}|\d\.\d))"
_BOXES = re.compile(
    rf"\[{_LARGE}{_NUMBER}(?:,{_NUMBER}){{3}}\]|\({_LARGE}{_NUMBER},{_NUMBER}\),?\s{{0,4}}\({_NUMBER},{_NUMBER}\)"
)
# Pieces of words as byte-pair and sentence-piece tokenizers keep them: an engine forgot to join them.
_PIECES = re.compile(r"[a-z.,][ĠĊ]|▁[^\W_]")
_ANSWER_AS_JSON = re.compile(r"\s{0,100}[\[{]\s{0,100}[\[{]?\s{0,100}\"")


@dataclass(frozen=True, slots=True, kw_only=True)
class Markup:
    """Special tokens count wherever they stand; tags, role names and boxes only outside quotes.

    Markdown's emphasis and lists are no markup here: they are legible, and nobody's token.
    """

    version: ClassVar[int] = 2

    def __call__(self, sample: Sample, caption: Caption) -> str | None:
        return "markup" if any(_found(caption.text)) else None

    def signals(self, sample: Sample, caption: Caption) -> Mapping[str, float]:
        tokens, other = _found(caption.text)
        return {"markup.token": float(tokens), "markup.other": float(other)}


@lru_cache(maxsize=8)
def _found(text: str) -> tuple[bool, bool]:
    """(a special token, other markup). Each search runs only where the mark it needs is there at all."""
    own = outside_quotes(judged(text))
    searches = (("<&", _TAGS), (":\n", _ROLES), ("[(", _BOXES), ("ĠĊ▁", _PIECES))
    other = any(any(mark in own for mark in marks) and pattern.search(own) for marks, pattern in searches)
    return TOKENS.search(text) is not None, other or "```" in text or _ANSWER_AS_JSON.match(text) is not None
