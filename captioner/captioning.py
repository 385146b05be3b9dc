"""One sample's way from bytes to outcome: screen, decode, ask, filter, and ask again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from captioner.errors import EngineError, EngineUnavailable, MediaError
from captioner.instructions import instruction_like
from captioner.media.clip_format import header_of
from captioner.recipe import Asking, to_json
from captioner.request import request_for
from captioner.trimming import whole_sentences
from captioner.types import (
    Caption,
    Decision,
    Decoded,
    Decoder,
    Engine,
    External,
    Failure,
    Filter,
    Filtered,
    Header,
    Information,
    Outcome,
    Rejection,
    Sample,
    Screen,
    Unreadable,
)

# What an adapter says that stopped an answer because it went round in circles.
LOOP: Final = "loop"
# Answers that ended by themselves or at the token limit; of any other nobody knows what the text is worth.
TRIMMABLE: Final = ("stop", "length")


@dataclass(frozen=True, slots=True, kw_only=True)
class Captioner:
    """Decides samples one by one; many decisions may be under way at once, the engine and the decoder bound them.

    external: who gathers what asking.told wants, entered; None where it wants nothing.
    """

    screens: tuple[Screen, ...]
    decoder: Decoder
    engine: Engine
    asking: Asking
    filters: tuple[Filter, ...]
    external: External | None = None

    def __post_init__(self) -> None:
        if (self.external is None) != (self.asking.told is None):
            raise ValueError("asking.told and external go together: what is told has to be gathered by somebody")

    async def decide(self, sample: Sample) -> Decision:
        """What becomes of a sample. Raises EngineError only when the engine as a whole is gone."""
        try:
            header = header_of(sample)
            reason = self.screen(sample, header)
            if reason is not None:
                return _sized(header, Filtered(reason=reason))
            decoded = await self._decoded(sample)
        except MediaError as error:
            return Decision(outcome=Unreadable(reason=error.reason, detail=error.detail))
        if sample.kind == "video":  # how large its frames are is only known by now
            header = replace(header, width=decoded.width, height=decoded.height)
            if (reason := self.screen(sample, header)) is not None:
                return replace(_sized(header, Filtered(reason=reason)), duration=decoded.duration)
        return _described(await self._ask(sample, decoded), decoded)

    async def _decoded(self, sample: Sample) -> Decoded:
        if sample.kind == "image":
            return await self.decoder.decode(sample.media, self.asking.budget)
        if self.asking.frames is None:
            raise MediaError("unsupported_format", "this recipe asks about pictures, and this is a video")
        media = sample.media if sample.large is None else sample.large.file
        return await self.decoder.watch(media, self.asking.frames)

    def screen(self, sample: Sample, header: Header) -> str | None:
        """The first screen's reason to drop the sample, None when all let it pass."""
        return next((reason for screen in self.screens if (reason := screen(sample, header))), None)

    async def _ask(self, sample: Sample, decoded: Decoded) -> Decision:
        """Climb the ladder while the verdict is one that another ask may mend; then trim, where the recipe allows."""
        asked, known = _Asked(), Information()
        for attempt in range(len(self.asking.ladder)):
            try:
                known = known if attempt else await self._gathered(sample, decoded)
                caption = await self.engine.caption(request_for(sample, decoded, self.asking, attempt, known))
            except EngineUnavailable:
                raise
            except EngineError as error:
                return asked.decided(Failure(reason=error.reason, detail=error.detail), attempt + 1, {})
            asked.seconds += caption.seconds or 0.0
            reason, signals = self.judge(sample, caption)
            if reason not in self.asking.again_for:
                break
            asked.reasons.append(reason)
        else:
            asked.reasons.pop()  # the last ask's is the outcome's
        if reason == "truncated_caption" and self.asking.trim and (trimmed := self._trimmed(sample, caption)):
            caption, signals = trimmed
            reason = None
        if known.boxes or known.lines:
            caption = replace(caption, facts=to_json(known))
        outcome = caption if reason is None else Rejection(reason=reason, caption=caption)
        return asked.decided(outcome, attempt + 1, signals)

    async def _gathered(self, sample: Sample, decoded: Decoded) -> Information:
        return Information() if self.external is None else await self.external.gather(sample, decoded)

    def _trimmed(self, sample: Sample, caption: Caption) -> tuple[Caption, Mapping[str, float]] | None:
        """The caption up to its last whole sentence and what was measured of it, None where no filter may keep it.

        It is judged as an answer that ended there, and keeps the finish reason that it came with.
        """
        text = whole_sentences(caption.text) if caption.finish_reason in TRIMMABLE else ""
        trimmed = replace(caption, text=text, flags=caption.flags | {"trimmed"})
        reason, signals = self.judge(sample, replace(trimmed, finish_reason="stop"))
        return (trimmed, signals) if text and reason is None else None

    def judge(self, sample: Sample, caption: Caption) -> tuple[str | None, Mapping[str, float]]:
        """The first filter's reason to drop the caption, and what every filter measured, whether it drops or not.

        An answer that its adapter stopped for looping is repetitive, whatever part of it came.
        """
        signals: dict[str, float] = {}
        verdict: str | None = "repetitive_caption" if caption.finish_reason == LOOP else None
        for each in self.filters:
            # Not isinstance with a Protocol: that costs 25 us a filter and caption.
            if (measure := getattr(each, "signals", None)) is not None:
                signals.update(measure(sample, caption))
            verdict = verdict or each(sample, caption)
        return verdict, signals


@dataclass(slots=True, kw_only=True)
class _Asked:
    """What the asks of one sample have come to: seconds in the engine, and why each was followed by another."""

    seconds: float = 0.0
    reasons: list[str] = field(default_factory=list)

    def decided(self, outcome: Caption | Rejection | Failure, attempts: int, signals: Mapping[str, float]) -> Decision:
        again = {f"again.{reason}": float(self.reasons.count(reason)) for reason in self.reasons}
        order = {f"again.{n}.{reason}": 1.0 for n, reason in enumerate(self.reasons, start=1)}
        signals = {**signals, **again, **order}
        return Decision(outcome=outcome, attempts=attempts, engine_seconds=self.seconds, signals=signals)


def _flags(outcome: Outcome) -> frozenset[str]:
    """What was odd about the answer, kept or not."""
    match outcome:
        case (Caption() as caption) | Rejection(caption=caption):
            return caption.flags | ({"instruction_like"} if instruction_like(caption.text) else frozenset())
    return frozenset()


def _described(decision: Decision, decoded: Decoded) -> Decision:
    """The decision with what decoding has shown of the sample."""
    flags = {f"flag.{flag}": 1.0 for flag in decoded.flags | _flags(decision.outcome)}
    return replace(
        decision,
        width=decoded.width,
        height=decoded.height,
        duration=decoded.duration,
        frame_times=decoded.times or None,
        signals={**decision.signals, **decoded.signals, **flags},
    )


def _sized(header: Header, outcome: Filtered) -> Decision:
    return Decision(outcome=outcome, width=header.width or None, height=header.height or None)
