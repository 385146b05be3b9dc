"""The embedded engine: small experts on the CPU say what they see, and a grammar puts it into sentences."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Final

from captioner.errors import EngineUnavailable, RequestRefused
from captioner.experts.seeing import Seeing
from captioner.experts.weights import revision
from captioner.presets import PRESETS
from captioner.recipe import Asking
from captioner.types import Caption, CaptionRequest

MODEL: Final = "recap-experts"
REVISION: Final = revision()


@dataclass(slots=True, kw_only=True)
class Experts:
    """Captions without a GPU or a server. ocr: also read what is written, which takes most of the time."""

    ocr: bool = True
    _seeing: Seeing | None = field(default=None, init=False, repr=False, compare=False)

    name: ClassVar[str] = "experts"
    version: ClassVar[int] = 1
    MODEL: ClassVar[str] = MODEL
    REVISION: ClassVar[str] = REVISION
    SLOTS: ClassVar[int] = 1
    ASKING: ClassVar[Asking] = PRESETS["experts"].asking
    PACKAGES: ClassVar[tuple[str, ...]] = ("onnxruntime", "rapidocr")

    async def __aenter__(self) -> Experts:
        self._seeing = await Seeing(ocr=self.ocr).__aenter__()
        return self

    async def caption(self, request: CaptionRequest) -> Caption:
        """Describes the picture, or the video by its frames. Raises RequestRefused, EngineUnavailable."""
        from captioner.experts import facts, moving
        from captioner.experts.fusion import describe
        from captioner.experts.voice import Voice

        if self._seeing is None:
            raise EngineUnavailable("the experts are not loaded; enter the engine first")
        if not request.images:
            raise RequestRefused("a request without a picture")
        voice = Voice(seed=request.media_sha256, attempt=request.attempt)
        if request.times:
            distinct = dict(zip(request.times, request.images, strict=True))
            moments = [
                moving.Moment(second=second, facts=await self._seeing.see(image)) for second, image in distinct.items()
            ]
            text, seen = moving.narrate(moments, voice), moving.to_json(moments)
        else:
            found = await self._seeing.see(request.images[0])
            text, seen = describe(found, voice), facts.to_json(found)
        return Caption(text=text, finish_reason="stop", completion_tokens=len(text.split()), facts=seen)

    async def __aexit__(self, *exc: object) -> None:
        if self._seeing is not None:
            await self._seeing.__aexit__(*exc)
            self._seeing = None
