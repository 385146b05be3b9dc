"""Turned pictures set upright, for loaders that do not look at EXIF; their captions say what one sees upright."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from captioner.errors import MediaError, OutOfService
from captioner.media.decoders import DecoderPool
from captioner.media.header import read_header
from captioner.recipe import Limits
from captioner.types import PixelBudget

PROCESSES = 2
UPRIGHT = 1  # as EXIF counts orientations


@dataclass(slots=True)
class Upright:
    """The same bytes of a picture that lies as it is seen; of another one a JPEG of ours in its full size.

    Any thread may call it. The decoder processes start with the first picture that is turned: few are.
    """

    limits: Limits
    _loop: asyncio.AbstractEventLoop | None = None
    _pool: DecoderPool | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, media: bytes) -> bytes:
        """Raises OutOfService where the limits that it was captioned within are too tight for all of its pixels."""
        header = read_header(media)
        if header.orientation == UPRIGHT:
            return media
        budget = PixelBudget(max_pixels=header.width * header.height)
        try:
            loop, pool = self._opened()
            decoded = asyncio.run_coroutine_threadsafe(pool.decode(media, budget), loop).result()
        except MediaError as error:
            words = "a turned picture cannot be set upright in its full size"
            raise OutOfService(f"{words}: {error}; --no-upright leaves pictures as they are stored") from error
        return decoded.picture.jpeg

    def _opened(self) -> tuple[asyncio.AbstractEventLoop, DecoderPool]:
        with self._lock:
            if self._loop is None or self._pool is None:
                self._loop, self._pool = asyncio.new_event_loop(), DecoderPool(PROCESSES, self.limits)
                threading.Thread(target=self._loop.run_forever, daemon=True).start()
                asyncio.run_coroutine_threadsafe(self._pool.__aenter__(), self._loop).result()
            return self._loop, self._pool

    def close(self) -> None:
        """End the decoder processes."""
        if self._loop is not None and self._pool is not None:
            asyncio.run_coroutine_threadsafe(self._pool.__aexit__(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)


@contextmanager
def upright(limits: Limits) -> Iterator[Upright]:
    """An Upright, closed on the way out."""
    turning = Upright(limits)
    try:
        yield turning
    finally:
        turning.close()
