"""In which form pictures and a video's frames go to a server: what each takes without choosing frames of its own."""

from __future__ import annotations

import binascii
from collections.abc import Iterator, Sequence
from typing import Literal

from captioner.types import CaptionRequest, Picture

# jpeg_list: one video of so many JPEGs (vLLM). clip: one video file of the same JPEGs, in which the server finds
# nothing to choose (SGLang). pictures: one after another; any server takes them, and no model sees a video in them.
Form = Literal["jpeg_list", "clip", "pictures"]
# vLLM takes the first 32 frames of a list, unless it was started otherwise, and drops the rest without a word; and a
# video of more tokens than it computes at once, 2,048 by default, it refuses. So a longer video goes as several, one
# after another. SGLang gets the same ones, so that both see the same tokens: one a 28 x 28 px of a pair of frames.
MOST_FRAMES, MOST_TOKENS, TOKEN_PIXELS = 32, 2048, 28 * 28

Part = tuple[str, list[bytes]]  # `image_url` or `video_url`, and its data URL in pieces


def form_of(request: CaptionRequest, wanted: Form) -> Form | None:
    """The form of a request's frames, None for pictures. A lone frame is a picture to all: no model has half a pair."""
    if not request.times:
        return None
    return "pictures" if len(request.images) % 2 else wanted


def parts(request: CaptionRequest, wanted: Form) -> Iterator[Part]:
    """A message's parts before its text. Only data URLs are ever sent: a server would fetch any other one."""
    form = form_of(request, wanted)
    if form in (None, "pictures"):
        for picture in request.images:
            yield "image_url", [b"data:image/jpeg;base64,", _base64(picture.jpeg)]
        return
    count = frames_at_once(request.images[0].width * request.images[0].height)
    for start in range(0, len(request.images), count):
        frames = request.images[start : start + count]
        yield "video_url", _listed(frames) if form == "jpeg_list" else _filed(frames)


def frames_at_once(pixels: int) -> int:
    """How many frames of so many pixels go as one video, an even number."""
    return max(2, min(MOST_FRAMES, 2 * (MOST_TOKENS * TOKEN_PIXELS // pixels)))


def _listed(frames: Sequence[Picture]) -> list[bytes]:
    pieces = [b"data:video/jpeg;base64,"]
    for frame in frames:
        pieces += [_base64(frame.jpeg), b","]
    return pieces[:-1]


def _filed(frames: Sequence[Picture]) -> list[bytes]:
    from captioner.media.motion_jpeg import motion_jpeg  # PyAV, which only this form wants

    return [b"data:video/mp4;base64,", _base64(motion_jpeg(frames))]


def _base64(data: bytes) -> bytes:
    return binascii.b2a_base64(data, newline=False)
