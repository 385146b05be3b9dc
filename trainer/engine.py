"""A trained model as an engine of `recap_*.py`: what one generation of a model says is the next one's corpus."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from captioner.errors import EngineUnavailable, MediaError, Refused, RequestRefused
from captioner.prompts import prompt
from captioner.recipe import Asking
from captioner.types import Caption, CaptionRequest, PixelBudget, Sampling

if TYPE_CHECKING:
    from trainer.answer import Speaker

FIRST = Sampling(max_tokens=512)
AGAIN = Sampling(max_tokens=512, temperature=0.6, top_p=0.95, top_k=20, seed=1)


@dataclass(slots=True, kw_only=True)
class Trained:
    """An EVEv2 or ELVA checkpoint in this process. checkpoint: its folder, or a training run for its newest.

    A run is resumed only with the checkpoint's path that it began with: the path is part of the recipe.
    """

    checkpoint: str = ""
    device: str = ""
    _speaker: Speaker | None = field(default=None, init=False, repr=False, compare=False)

    version: ClassVar[int] = 1
    MODEL: ClassVar[str] = "recap-trained"
    REVISION: ClassVar[str] = "1"
    SLOTS: ClassVar[int] = 1
    PACKAGES: ClassVar[tuple[str, ...]] = ("torch", "transformers")
    ASKING: ClassVar[Asking] = Asking(
        prompt_id="describe-in-detail-1",
        prompt=prompt("describe-in-detail-1"),
        budget=PixelBudget(max_pixels=1600 * 1600),  # the model's own grid is at most so large
        ladder=(FIRST, AGAIN),
        again_for=("empty_caption", "repetitive_caption", "too_short", "truncated_caption"),
    )

    async def __aenter__(self) -> Trained:
        # torch, only where somebody is to be captioned by it: every --help builds all engines' settings.
        from trainer.answer import Speaker

        if not self.checkpoint:
            raise Refused("--engine trained wants --trained.checkpoint, a folder that `recap train` wrote")
        self._speaker = await asyncio.to_thread(Speaker, self.checkpoint, self.device)
        return self

    async def caption(self, request: CaptionRequest) -> Caption:
        """Describes the picture, or the middle one of a video's frames. Raises RequestRefused, EngineUnavailable."""
        if self._speaker is None:
            raise EngineUnavailable("the model is not loaded; enter the engine first")
        if not request.images:
            raise RequestRefused("a request without a picture")
        jpeg = request.images[len(request.images) // 2].jpeg
        try:
            said = await asyncio.to_thread(self._speaker.answer, jpeg, request.prompt, request.sampling)
        except MediaError as error:
            raise RequestRefused(error.detail) from error
        return Caption(
            text=said.text,
            finish_reason=said.finish_reason,
            prompt_tokens=said.prompt_tokens,
            completion_tokens=said.completion_tokens,
        )

    async def __aexit__(self, *exc: object) -> None:
        self._speaker = None
