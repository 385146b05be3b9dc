"""Frames of clips for a model in training, by the decoder processes of captioning: whole seconds, spread evenly."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from typing import IO, Any, TypeVar

from captioner.errors import OutOfService
from captioner.media.decoders import DecoderPool
from captioner.media.wire import MAX_BODY_BYTES
from captioner.recipe import Limits
from captioner.types import Decoded, FrameBudget, PixelBudget

T = TypeVar("T")
# Thrice what captioning gives a clip: one that a busy moment left out would make another step of it.
LIMITS = Limits(decode_seconds=30)
JPEG_BYTES = 3  # a pixel at most: noise takes 2.3, and all frames of a clip come in one answer


class ClipDecoders(AbstractContextManager["ClipDecoders"]):
    """Decoder processes that all threads ask; the first clip starts them, leaving ends them.

    processes: how many, and so how many clips are open at once.
    """

    def __init__(self, processes: int = 4) -> None:
        self._processes, self._entered, self._starting = processes, False, threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pool: DecoderPool | None = None
        self._ends = ExitStack()

    def __enter__(self) -> ClipDecoders:
        self._entered = True
        return self

    def __exit__(self, *exc: object) -> None:
        self._entered, self._pool = False, None
        self._ends.close()

    def watch(self, clip: bytes | IO[bytes], budget: FrameBudget) -> Decoded:
        """Its frames; a file is read by the process alone. Raises MediaError; OutOfService, also outside of `with`."""
        with self._starting:
            pool = self._pool = self._pool or self._started()
        return self._answer(pool.watch(clip, budget))

    def _started(self) -> DecoderPool:
        if not self._entered:
            raise OutOfService("clips are opened in decoder processes: enter ClipDecoders with `with`")
        self._loop = asyncio.new_event_loop()
        thread = threading.Thread(target=self._loop.run_forever, name="clips")
        thread.start()
        for end in (self._loop.close, thread.join):
            self._ends.callback(end)
        self._ends.callback(self._loop.call_soon_threadsafe, self._loop.stop)
        pool = self._answer(DecoderPool(self._processes, LIMITS, clips="pyav").__aenter__())
        self._ends.callback(lambda: self._answer(pool.__aexit__()))
        return pool

    def _answer(self, asked: Coroutine[Any, Any, T]) -> T:
        assert self._loop is not None, "started"
        return asyncio.run_coroutine_threadsafe(asked, self._loop).result()


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How feeds open videos and pictures. images: where the paths in LLaVA's JSON begin, "" for the JSON's folder.

    frames: of a video at most. side: px of the square whose area a frame has at most before it is brought to its grid.
    clips: who opens clips; whoever has entered them.
    """

    images: str = ""
    frames: int = 1
    side: int = 672
    clips: ClipDecoders = field(default_factory=ClipDecoders)


def frames_of(clip: bytes | IO[bytes], count: int, look: Look) -> list[bytes]:
    """So many frames as JPEGs, upright; a clip with fewer whole seconds stands still at its end. Raises MediaError."""
    area = min(look.side**2, MAX_BODY_BYTES // (JPEG_BYTES * count))
    seen = look.clips.watch(clip, FrameBudget(pixels=PixelBudget(max_pixels=area), max_frames=count))
    found = [picture.jpeg for picture in seen.frames]
    return found + found[-1:] * (count - len(found))


def clip_of(clip: IO[bytes], look: Look) -> tuple[tuple[int, int], int]:
    """A clip's upright px, and how many frames of it are taken. One frame is decoded. Raises MediaError."""
    seen = look.clips.watch(clip, FrameBudget(pixels=PixelBudget(max_pixels=64 * 64), max_frames=1))
    return (seen.width, seen.height), min(look.frames, max(1, int(seen.duration or 0)))
