"""Runs over clips with real vLLM and SGLang: what each read, by its own count of tokens, is exactly the frames sent."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from captioner.engines.frames import frames_at_once
from captioner.presets import PRESETS
from captioner.prompts import prompt
from shards.ledger import Row
from shards.pack import Packed
from tests.clips import H264, Coding, at_rate, clip
from tests.engines import runs
from tests.engines.asking import BEARER, TIMEOUT
from tests.engines.beds import Bed
from tests.engines.install import model
from tests.engines.runs import KEY_VARIABLE, shards_of
from tests.processes import ROOT, recap

CLIPS = 32
LONG = 36  # frames of the longest clip: more than a server takes in one list
CODING = Coding(options={**H264, "g": "30"}, rate=10)
# 320 x 192 px are enlarged to 420 x 252: 15 times 9 tokens of 28 x 28 px in two frames.
TOKENS_A_PAIR = 15 * 9
FORMS = {"vllm": "flag.frames_as_jpeg_list", "sglang": "flag.frames_as_clip"}


def clips() -> list[Packed]:
    """Clips of 1 to 14 s, one long one, and three that nobody can read."""
    seconds = [LONG, *(1 + number % 14 for number in range(CLIPS - 1))]
    good = [clip(CODING, at_rate(10, 10 * each - 5 * (number % 2))) for number, each in enumerate(seconds)]
    bad = [good[1][:2000], b"#EXTM3U\nfile:///etc/passwd\n", b"<html>404</html>"]
    return [
        Packed(key=f"{number:08d}", extension="mp4", media=media, caption=f"title {number}", fields={"videoid": "7"})
        for number, media in enumerate([*good, *bad])
    ]


def like_the_hubs(folder: Path) -> str:
    """The tiny checkpoint with the video limits of the real one, which the preset's frames keep within."""
    shutil.copytree(model("qwen2vl"), folder)
    for name in ("video_preprocessor_config.json", "processor_config.json"):
        told: dict[str, Any] = json.loads((folder / name).read_text())
        told.get("video_processor", told)["size"] = {"shortest_edge": 4 * 28 * 28, "longest_edge": 16384 * 28 * 28}
        (folder / name).write_text(json.dumps(told))
    return str(folder)


async def words_alone(url: str) -> int:
    """Tokens of the prompt without any frame, by the server's count."""
    messages = [{"role": "user", "content": prompt("describe-video-1")}]
    asked = {"model": "tiny", "messages": messages, "max_tokens": 1, "temperature": 0}
    async with (
        aiohttp.ClientSession(timeout=TIMEOUT, headers=BEARER) as session,
        session.post(f"{url}/v1/chat/completions", json=asked) as answer,
    ):
        return int((await answer.json())["usage"]["prompt_tokens"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """A run that ended: its engine, its folder, its ledger, and the tokens of its prompt alone."""

    engine: str
    out: Path
    rows: dict[str, Row]
    words: int


@pytest.fixture(scope="module", params=["vllm", "sglang"])
def ran(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    """One run over all clips by WebVid's script; one server at a time."""
    engine, folder = request.param, tmp_path_factory.mktemp(request.param)
    shards_of(folder / "in", clips(), per_shard=20)
    bed = Bed(engine, like_the_hubs(folder / "model"), folder, 0, context_tokens=4096)
    try:
        url = bed.serving()
        script = str(ROOT / "pipelines/recap_webvid.py")
        words = [sys.executable, script, "--input", str(folder / "in"), "--output", str(folder / "out")]
        served = ["--engine", engine, "--endpoints", url, "--key-variable", KEY_VARIABLE, "--pace.workers", "1"]
        asked = ["--model", "tiny", "--preset", "qwen2-vl", "--max-tokens", "24", "--without", *runs.FILTERS]
        ended = runs.run([*words, *served, *asked])
        assert ended.returncode == 0, ended.stderr
        alone = asyncio.run(words_alone(url))
        yield Ran(engine=engine, out=folder / "out", rows=runs.rows(folder / "out"), words=alone)
    finally:
        bed.close()


def test_every_clip_is_accounted_for(ran: Ran) -> None:
    verified = recap("verify", str(ran.out), "--json")
    verdict = json.loads(verified.stdout)
    assert verified.returncode == 0 and not verdict["problems"]
    assert verdict["totals"]["counts"]["read"] == CLIPS + 3
    outcomes = [(row.outcome, row.reason) for row in ran.rows.values() if row.outcome != "captioned"]
    assert sorted(outcomes) == [
        ("filtered", "unsupported_format"),
        ("unreadable", "bad_container"),
        ("unreadable", "undecodable_video"),
    ]


def test_the_servers_count_of_tokens_is_that_of_the_frames_sent(ran: Ran) -> None:
    frames = PRESETS["qwen2-vl"].asking.frames
    assert frames is not None and frames.multiple_of == 2
    captioned = [row for row in ran.rows.values() if row.outcome == "captioned"]
    assert len(captioned) == CLIPS and max(len(row.frame_times or ()) for row in captioned) == LONG
    for row in captioned:
        assert row.frame_times is not None and len(row.frame_times) % 2 == 0
        videos = -(-len(row.frame_times) // frames_at_once(420 * 252))  # each stands between two marks
        assert row.prompt_tokens == ran.words + 2 * videos + len(row.frame_times) // 2 * TOKENS_A_PAIR, row.key
        assert row.signals is not None and row.signals[FORMS[ran.engine]] == 1.0
        assert (row.engine, row.model, row.prompt_id) == (ran.engine, "tiny", "describe-video-1")


def test_times_and_durations_are_those_of_the_clips(ran: Ran) -> None:
    for key, row in ran.rows.items():
        if row.outcome == "captioned":
            assert row.frame_times is not None and row.duration is not None
            whole = [float(second) for second in range(len(set(row.frame_times)))]
            assert sorted(set(row.frame_times)) == whole, key
            assert whole[-1] < row.duration <= whole[-1] + 1.1
