"""The fake engine: answers without looking, for tests and benchmarks only."""

from __future__ import annotations

import asyncio
import math
import random
from dataclasses import dataclass
from typing import ClassVar

from captioner.errors import RequestRefused
from captioner.presets import PRESETS
from captioner.recipe import Asking
from captioner.types import Caption, CaptionRequest

SUBJECTS = ("A quiet harbour", "A red bicycle", "An old stone bridge", "A bowl of ripe fruit", "A narrow street")
PLACES = ("beside a calm river", "under a pale morning sky", "in front of a painted wall", "near a row of tall trees")
CLOSINGS = ("Soft light falls from the left.", "Nothing else is close by.", "The background is slightly out of focus.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fake:
    """Deterministic answers by the media's hash.

    seconds, sigma: mean and log-sigma of lognormal answer times, drawn from the hash as well.
    looping, cut, refused: the share of samples whose first answer loops, is cut off, or is refused by the engine.
    buggy: the share of samples on which the engine's own code breaks, with an error that no engine may raise.
    """

    version: ClassVar[int] = 1
    MODEL: ClassVar[str] = "recap-fake"
    REVISION: ClassVar[str] = "1"
    SLOTS: ClassVar[int] = 64
    ASKING: ClassVar[Asking] = PRESETS["fake"].asking

    seconds: float = 0.0
    sigma: float = 0.0
    looping: float = 0.0
    cut: float = 0.0
    refused: float = 0.0
    buggy: float = 0.0

    async def __aenter__(self) -> Fake:
        return self

    async def __aexit__(self, *exc: object) -> None:
        return None

    async def caption(self, request: CaptionRequest) -> Caption:
        """An answer that depends on the media's hash and the attempt alone. Raises RequestRefused for `refused`."""
        dice = random.Random(f"{request.media_sha256}/{request.attempt}")
        seconds = self.answer_seconds(request.media_sha256, request.attempt)
        if seconds:
            await asyncio.sleep(seconds)
        spoils = (
            self.refused or self.looping or self.cut or self.buggy
        )  # seeding dice costs 12 us: only where they count
        fate = random.Random(request.media_sha256).random() if spoils and request.attempt == 0 else 1.0
        if fate < self.refused:
            raise RequestRefused("the fake engine was told to refuse this one")
        if fate > 1.0 - self.buggy and request.attempt == 0:
            raise ArithmeticError("the fake engine was told to break here")
        text = f"{dice.choice(SUBJECTS)} stands {dice.choice(PLACES)}. {dice.choice(CLOSINGS)}"
        finish = "stop"
        if fate < self.refused + self.looping:
            text = f"{text} And then" + " the same wall again" * 40 + "."
        elif fate < self.refused + self.looping + self.cut:
            text, finish = text[: len(text) * 2 // 3], "length"
        return Caption(text=text, finish_reason=finish, completion_tokens=len(text.split()), seconds=seconds)

    def answer_seconds(self, media_sha256: str, attempt: int = 0) -> float:
        """How long this answer takes: lognormal with the asked mean."""
        if not self.seconds:
            return 0.0
        drawn = random.Random(f"{media_sha256}/{attempt}/seconds").lognormvariate(0.0, self.sigma)
        return self.seconds * drawn / math.exp(self.sigma**2 / 2)
