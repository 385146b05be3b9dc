"""A video's frames on their way to a server: each dialect's form, by pure functions, and read back by other readers."""

from __future__ import annotations

import base64
import io
import json
from itertools import chain
from typing import Any

import av
import pytest
from PIL import Image

from captioner.engines.frames import MOST_FRAMES, frames_at_once
from captioner.engines.openai import body_of, payload
from captioner.engines.replies import caption_of
from captioner.media.motion_jpeg import FRAMES_PER_SECOND, motion_jpeg
from captioner.types import CaptionRequest, Picture, Sampling
from tests.test_adapters import answer, asked


def frame(number: int) -> Picture:
    sink = io.BytesIO()
    Image.new("RGB", (112, 84), (number * 5 % 256, 90, 200 - number)).save(sink, "JPEG", subsampling=0)
    return Picture(jpeg=sink.getvalue(), width=112, height=84)


def video(frames: int) -> CaptionRequest:
    return CaptionRequest(
        images=tuple(frame(number) for number in range(frames)),
        prompt="Describe this video.",
        sampling=Sampling(max_tokens=64),
        media_sha256="00",
        times=tuple(map(float, range(frames))),
    )


def seen(request: CaptionRequest, dialect: str) -> list[tuple[str, str]]:
    """(kind, data URL) of a message's parts before its text."""
    *parts, text = payload(request, asked(dialect))["messages"][0]["content"]
    assert text == {"type": "text", "text": "Describe this video."}
    return [(part["type"], part[part["type"]]["url"]) for part in parts]


def jpegs(url: str) -> list[bytes]:
    return [base64.b64decode(each) for each in url.removeprefix("data:video/jpeg;base64,").split(",")]


def in_file(url: str) -> tuple[float, list[bytes]]:
    """(frames a second, packets) of a clip, as another reader finds them."""
    media = base64.b64decode(url.removeprefix("data:video/mp4;base64,"))
    with av.open(io.BytesIO(media)) as container:
        (stream,) = container.streams.video
        rate = stream.average_rate
        assert rate is not None
        return float(rate), [bytes(packet) for packet in container.demux(stream) if packet.size]


def test_vllm_gets_a_list_of_jpegs_and_never_more_than_it_takes() -> None:
    request = video(70)
    parts = seen(request, "vllm")
    assert [kind for kind, _ in parts] == ["video_url"] * 3
    lists = [jpegs(url) for _, url in parts]
    assert [len(each) for each in lists] == [MOST_FRAMES, MOST_FRAMES, 6]
    assert list(chain(*lists)) == [picture.jpeg for picture in request.images]


@pytest.mark.parametrize(("width", "height", "count"), [(504, 280, 22), (420, 252, 30), (112, 84, 32), (4096, 4096, 2)])
def test_a_video_is_never_more_than_vllm_computes_at_once(width: int, height: int, count: int) -> None:
    assert frames_at_once(width * height) == count
    assert count == 2 or count // 2 * width * height // 28**2 <= 2048


def test_sglang_gets_a_clip_of_the_very_same_jpegs_at_the_rate_it_looks_at_all_of_them() -> None:
    request = video(34)
    parts = seen(request, "sglang")
    assert [kind for kind, _ in parts] == ["video_url", "video_url"]
    rates, packets = zip(*(in_file(url) for _, url in parts), strict=True)
    assert set(rates) == {FRAMES_PER_SECOND}
    assert list(chain(*packets)) == [picture.jpeg for picture in request.images]


def test_an_unknown_server_gets_pictures_in_the_order_of_time() -> None:
    request = video(4)
    kinds, urls = zip(*seen(request, "openai"), strict=True)
    assert set(kinds) == {"image_url"}
    sent = [base64.b64decode(url.removeprefix("data:image/jpeg;base64,")) for url in urls]
    assert sent == [picture.jpeg for picture in request.images]


@pytest.mark.parametrize("dialect", ["vllm", "sglang"])
def test_frames_that_make_no_pairs_go_as_pictures(dialect: str) -> None:
    assert [kind for kind, _ in seen(video(3), dialect)] == ["image_url"] * 3


@pytest.mark.parametrize("dialect", ["openai", "vllm", "sglang"])
def test_the_spliced_body_of_a_video_is_its_payload(dialect: str) -> None:
    request, told = video(36), asked(dialect)
    assert json.loads(body_of(request, told)) == payload(request, told)


@pytest.mark.parametrize("form", ["jpeg_list", "clip", "pictures"])
def test_an_answer_says_in_which_form_its_frames_went(form: Any) -> None:
    assert caption_of(answer(), asked(form=form)).flags == {f"frames_as_{form}"}
    assert caption_of(answer(), asked()).flags == frozenset()


def test_a_clip_of_jpegs_is_the_same_bytes_every_time() -> None:
    frames = [frame(number) for number in range(6)]
    assert motion_jpeg(frames) == motion_jpeg(frames)
