"""A trained model as an engine of `recap_*.py`: what one generation of a model says is the next one's corpus."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from captioner.errors import EngineUnavailable, MediaError, Refused, RequestRefused
from captioner.prompts import prompt
from captioner.recipe import Asking
from captioner.types import Caption, CaptionRequest, FrameBudget, PixelBudget, Sampling
from trainer import checkpoint
from trainer.templates import IMAGE, forbidden

FIRST = Sampling(max_tokens=512)
AGAIN = Sampling(max_tokens=512, temperature=0.6, top_p=0.95, top_k=20, seed=1)


@dataclass(slots=True, kw_only=True)
class Trained:
    """An EVEv2 or ELVA checkpoint, in the worker's process. checkpoint: its folder, or a training run for its newest.

    device: cpu, cuda, cuda:1 …; "" for the first GPU, if there is one.
    """

    checkpoint: str = ""
    device: str = ""
    _speaker: Any = field(default=None, init=False, repr=False, compare=False)

    version: ClassVar[int] = 1
    SLOTS: ClassVar[int] = 1
    PACKAGES: ClassVar[tuple[str, ...]] = ("torch", "transformers")
    ASKING: ClassVar[Asking] = Asking(
        prompt_id="describe-in-detail-1",
        prompt=prompt("describe-in-detail-1"),
        budget=PixelBudget(max_pixels=1600 * 1600),  # the model's own grid is at most so large
        ladder=(FIRST, AGAIN),
        frames=FrameBudget(pixels=PixelBudget(max_pixels=672 * 672), max_frames=32),  # ELVA's stage 3 takes 32
        again_for=("empty_caption", "repetitive_caption", "too_short", "truncated_caption"),
    )

    @property
    def folder(self) -> Path:
        """Raises Refused."""
        if not self.checkpoint:
            raise Refused("--engine trained wants --trained.checkpoint, a folder that `recap train` wrote")
        return checkpoint.model_folder(self.checkpoint)

    @property
    def MODEL(self) -> str:
        """Stage and step: what every caption's record will name."""
        return checkpoint.identity(self.folder)[0]

    @property
    def REVISION(self) -> str:
        """Of its very weights: a run is not resumed with a newer checkpoint."""
        return checkpoint.identity(self.folder)[1]

    async def __aenter__(self) -> Trained:
        # torch, only where a picture is to be captioned: every --help looks at the settings of all engines.
        from trainer.answer import Speaker

        self._speaker = await asyncio.to_thread(Speaker, self.folder, self.device)
        return self

    async def caption(self, request: CaptionRequest) -> Caption:
        """Describes the picture, or a video: ELVA by its frames, EVE by the middle one.

        Raises RequestRefused, EngineUnavailable.
        """
        if self._speaker is None:
            raise EngineUnavailable("the model is not loaded; enter the engine first")
        if not request.images:
            raise RequestRefused("a request without a picture")
        if (found := forbidden(request.prompt.replace(IMAGE, ""))) is not None:  # an alt text may hold anything
            raise RequestRefused(f"{found!r} in the prompt: it would be read as a mark of the template")
        frames = [each.jpeg for each in request.images]
        try:
            said = await asyncio.to_thread(self._speaker.answer, frames, request.prompt, request.sampling)
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
