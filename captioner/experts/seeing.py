"""The experts and the one thread that uses them, for whoever needs facts without waiting for them."""

from __future__ import annotations

import asyncio
import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from captioner.errors import EngineUnavailable, RequestRefused
from captioner.types import Picture

if TYPE_CHECKING:
    from PIL import Image

    from captioner.experts.facts import Facts
    from captioner.experts.sight import Sight


@dataclass(slots=True, kw_only=True)
class Seeing:
    """Entering loads the experts; one thread does the seeing, as several worker processes share a machine.

    ocr: also read what is written, which takes most of the time.
    """

    ocr: bool
    _open: tuple[ThreadPoolExecutor, Sight] | None = field(default=None, init=False, repr=False, compare=False)

    async def __aenter__(self) -> Seeing:
        thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="experts")
        self._open = thread, await asyncio.get_running_loop().run_in_executor(thread, _load, self.ocr)
        return self

    async def see(self, picture: Picture) -> Facts:
        """What the experts make of a picture. Raises RequestRefused for no JPEG, EngineUnavailable if not entered."""
        if self._open is None:
            raise EngineUnavailable("the experts are not loaded; enter them first")
        thread, sight = self._open
        return await asyncio.get_running_loop().run_in_executor(thread, _see, sight, picture)

    async def __aexit__(self, *exc: object) -> None:
        if self._open is not None:
            self._open[0].shutdown(wait=False, cancel_futures=True)
            self._open = None


def _load(ocr: bool) -> Sight:
    from captioner.experts.sight import Sight  # seconds of imports, wanted only by whoever enters

    return Sight(ocr=ocr)


def _see(sight: Sight, picture: Picture) -> Facts:
    return sight.see(_decoded(picture))


def _decoded(picture: Picture) -> Image.Image:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(picture.jpeg), formats=("JPEG",)) as image:
            return image.convert("RGB")
    except (OSError, ValueError, SyntaxError) as error:
        raise RequestRefused(f"the request's picture is no JPEG: {error}") from error
