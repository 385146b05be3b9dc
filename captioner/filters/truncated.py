"""Drops captions that stop in the middle, by the engine's own word or by their last characters."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from captioner.types import Caption, Sample

# Full stops of Latin, CJK, Arabic, Urdu, Indic, Burmese, Khmer, Ethiopic, Armenian, Tibetan and Greek text.
_STOPS = ".!?…‽。！？｡．؟۔।॥။។៕።፧։།"
_CLOSERS = "\"'”’»›)]}」』】〉》）］｝＂＇*_"
_SPACES_AND_EMOJI = re.compile("[\\s\u2600-\u27bf\ufe0f\u200d\U0001f1e6-\U0001faff]")
# Thai and Lao write no full stop.
_UNSTOPPED = re.compile("[\u0e00-\u0eff]")
_OPENED = re.compile("[«‹][^»›]*$")
# A line that has no more than its bullet, number or heading mark was about to be written.
_BARE_MARK = re.compile(r"\n[ \t]{0,8}(?:[-*+•#>|]{1,6}|\(?\d{1,3}[.)]|\(?[a-zA-Z][.)])$")
# No sign or title that a caption ends with is longer: further back nothing is looked at.
_TAIL = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Truncated:
    """whole: the finish reasons of engines that say "I was done"; any other, or none, is a cut caption.

    A text is done when it ends with a full stop of any script, a closing quote or bracket, or an emoji. Thai and Lao
    need none of them. A last line without one, as in a bare list, cannot be told from a cut one and is dropped.
    """

    version: ClassVar[int] = 2
    whole: tuple[str, ...] = ("stop", "eos", "eos_token", "stop_sequence", "end_turn")

    def __post_init__(self) -> None:
        if not self.whole or "length" in self.whole or "" in self.whole:
            raise ValueError(f"whole is {self.whole}; finish reasons that mean done, such as stop, would be right")

    def __call__(self, sample: Sample, caption: Caption) -> str | None:
        cut = caption.finish_reason not in self.whole or not ends_whole(caption.text)
        return "truncated_caption" if cut else None

    def signals(self, sample: Sample, caption: Caption) -> Mapping[str, float]:
        return {
            "truncated.finish": float(caption.finish_reason not in self.whole),
            "truncated.open_end": float(not ends_whole(caption.text)),
        }


def ends_whole(text: str) -> bool:
    """Whether the last characters end a sentence rather than break it off."""
    tail = text[-_TAIL:].rstrip()
    if _BARE_MARK.search(tail[-16:]):
        return False
    bare = tail
    while bare and _SPACES_AND_EMOJI.match(bare[-1]):
        bare = bare[:-1]
    if not bare:
        return bool(tail)
    if bare[-1] in _CLOSERS or (bare[-1] == "“" and "„" in bare):
        return _closes(bare)
    return bare[-1] in _STOPS or len(bare) < len(tail) or _UNSTOPPED.match(bare[-1]) is not None


def _closes(text: str) -> bool:
    """Whether the closing mark at the end closes something: `reads "` and `reads (` do not."""
    core = text.rstrip(_CLOSERS)
    if core.endswith((" ", "\xa0", "\u202f")) and text[len(core)] in "»›" and _OPENED.search(core):
        core = core.rstrip()  # French sets a space before its closing mark
    elif core.endswith("“") and "„" in core[:-1]:
        core = core[:-1]  # German closes with what English opens with
    if not core or core[-1].isspace():
        return False
    return core[-1] not in ",;:([{“‘«‹（［｛「『【"
