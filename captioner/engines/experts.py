"""The embedded engine: small experts on the CPU say what they see, and a grammar puts it into sentences."""

from __future__ import annotations

import asyncio
import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Final

from PIL import Image

from captioner.errors import EngineUnavailable, RequestRefused
from captioner.experts.weights import revision
from captioner.presets import preset
from captioner.recipe import Asking
from captioner.types import Caption, CaptionRequest, Picture

if TYPE_CHECKING:
    from captioner.experts.sight import Sight

MODEL: Final = "recap-experts"
REVISION: Final = revision()


@dataclass(slots=True, kw_only=True)
class Experts:
    """Captions without a GPU or a server. ocr: also read what is written, which takes most of the time.

    One thread does the seeing: several worker processes share a machine.
    """

    ocr: bool = True
    _seeing: _Seeing | None = field(default=None, init=False, repr=False, compare=False)

    name: ClassVar[str] = "experts"
    version: ClassVar[int] = 1
    MODEL: ClassVar[str] = MODEL
    REVISION: ClassVar[str] = REVISION
    SLOTS: ClassVar[int] = 1
    ASKING: ClassVar[Asking] = preset("experts")
    PACKAGES: ClassVar[tuple[str, ...]] = ("onnxruntime", "rapidocr")

    async def __aenter__(self) -> Experts:
        thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="experts")
        sight = await asyncio.get_running_loop().run_in_executor(thread, _load, self.ocr)
        self._seeing = _Seeing(thread=thread, sight=sight)
        return self

    async def caption(self, request: CaptionRequest) -> Caption:
        """Describes the picture, or the middle one of a video's frames. Raises RequestRefused, EngineUnavailable."""
        if self._seeing is None:
            raise EngineUnavailable("the experts are not loaded; enter the engine first")
        if not request.images:
            raise RequestRefused("a request without a picture")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._seeing.thread, _caption, self._seeing.sight, request)

    async def __aexit__(self, *exc: object) -> None:
        if self._seeing is not None:
            self._seeing.thread.shutdown(wait=False, cancel_futures=True)
            self._seeing = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seeing:
    """The loaded experts and the only thread that uses them."""

    thread: ThreadPoolExecutor
    sight: Sight


def _load(ocr: bool) -> Sight:
    from captioner.experts.sight import Sight  # seconds of imports, wanted only by whoever enters

    return Sight(ocr=ocr)


def _caption(sight: Sight, request: CaptionRequest) -> Caption:
    from captioner.experts.facts import to_json
    from captioner.experts.fusion import describe
    from captioner.experts.voice import Voice

    noun = "picture" if len(request.images) == 1 else "video frame"
    facts = sight.see(_decoded(request.images[len(request.images) // 2]))
    text = describe(facts, Voice(seed=request.media_sha256, attempt=request.attempt), noun)
    return Caption(text=text, finish_reason="stop", completion_tokens=len(text.split()), facts=to_json(facts))


def _decoded(picture: Picture) -> Image.Image:
    try:
        with Image.open(io.BytesIO(picture.jpeg), formats=("JPEG",)) as image:
            return image.convert("RGB")
    except (OSError, ValueError, SyntaxError) as error:
        raise RequestRefused(f"the request's picture is no JPEG: {error}") from error
