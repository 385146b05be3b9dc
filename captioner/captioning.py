"""One sample's way from bytes to outcome: screen, decode, ask, filter, and ask again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from captioner.errors import EngineError, EngineUnavailable, MediaError
from captioner.media.header import read_header
from captioner.recipe import Asking
from captioner.request import request_for
from captioner.types import (
    Caption,
    Decision,
    Decoded,
    Decoder,
    Engine,
    Failure,
    Filter,
    Filtered,
    Header,
    Rejection,
    Sample,
    Screen,
    Unreadable,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Captioner:
    """Decides samples one by one; many decisions may be under way at once, the engine and the decoder bound them."""

    screens: tuple[Screen, ...]
    decoder: Decoder
    engine: Engine
    asking: Asking
    filters: tuple[Filter, ...]

    async def decide(self, sample: Sample) -> Decision:
        """What becomes of a sample. Raises EngineError only when the engine as a whole is gone."""
        try:
            header = read_header(sample.media)
            reason = self.screen(sample, header)
            if reason is not None:
                return _sized(header, Filtered(reason=reason))
            decoded = await self.decoder.decode(sample.media, self.asking.budget)
        except MediaError as error:
            return Decision(outcome=Unreadable(reason=error.reason, detail=error.detail))
        decision = await self._ask(sample, decoded)
        flags = {f"flag.{flag}": 1.0 for flag in decoded.flags}
        return replace(decision, width=decoded.width, height=decoded.height, signals=dict(decision.signals) | flags)

    def screen(self, sample: Sample, header: Header) -> str | None:
        """The first screen's reason to drop the sample, None when all let it pass."""
        return next((reason for screen in self.screens if (reason := screen(sample, header))), None)

    async def _ask(self, sample: Sample, decoded: Decoded) -> Decision:
        """Climb the ladder while the verdict is one that another ask may mend."""
        spent = 0.0
        refused: dict[str, float] = {}
        for attempt in range(len(self.asking.ladder)):
            try:
                caption = await self.engine.caption(request_for(sample, decoded, self.asking, attempt))
            except EngineUnavailable:
                raise
            except EngineError as error:
                return Decision(outcome=Failure(reason=error.reason, detail=error.detail), attempts=attempt + 1)
            spent += caption.seconds or 0.0
            reason, signals = self.judge(sample, caption)
            signals = dict(signals) | refused
            if reason not in self.asking.again_for:
                break
            refused[f"again.{reason}"] = refused.get(f"again.{reason}", 0.0) + 1.0
        outcome = caption if reason is None else Rejection(reason=reason, caption=caption)
        return Decision(outcome=outcome, attempts=attempt + 1, engine_seconds=spent, signals=signals)

    def judge(self, sample: Sample, caption: Caption) -> tuple[str | None, Mapping[str, float]]:
        """The first filter's reason to drop the caption, and what every filter measured, whether it drops or not."""
        signals: dict[str, float] = {}
        verdict: str | None = None
        for each in self.filters:
            # Not isinstance with a Protocol: that costs 25 us a filter and caption.
            if (measure := getattr(each, "signals", None)) is not None:
                signals.update(measure(sample, caption))
            verdict = verdict or each(sample, caption)
        return verdict, signals


def _sized(header: Header, outcome: Filtered) -> Decision:
    return Decision(outcome=outcome, width=header.width or None, height=header.height or None)
