"""Clips as samples: whole seconds, opened in decoder processes when their turn comes, and never held whole."""

from __future__ import annotations

import itertools
import json
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import IO

import pytest

torch = pytest.importorskip("torch", reason="needs the `train` extra")

from captioner.errors import OutOfService  # noqa: E402
from captioner.types import Decoded, FrameBudget, Spooled  # noqa: E402
from shards import reading  # noqa: E402
from tests import clips  # noqa: E402
from tests.trainer import made  # noqa: E402
from trainer.data.clips import ClipDecoders, Look  # noqa: E402
from trainer.data.entries import Reader  # noqa: E402
from trainer.data.feeds import open_feed  # noqa: E402
from trainer.data.lane import Lane, Order  # noqa: E402
from trainer.data.loader import Ahead, Batch, Loader  # noqa: E402
from trainer.recipes import STAGES  # noqa: E402
from trainer.stage import Pictures  # noqa: E402

SMALL = Pictures(mode="longest_edge", max_side=56, tokens=21, frames=4)


class Counted(ClipDecoders):
    """Tells how often a clip was opened."""

    opened = 0

    def watch(self, clip: bytes | IO[bytes], budget: FrameBudget) -> Decoded:
        self.opened += 1
        return super().watch(clip, budget)

    @property
    def pids(self) -> list[int]:
        return self._pool.pids if self._pool is not None else []


@pytest.fixture(scope="module")
def decoders() -> Iterator[Counted]:
    with Counted(2) as opened:
        yield opened


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Committed clips of 6 and 7 seconds."""
    return made.video_corpus(tmp_path_factory.mktemp("clips"))


def reader(stage: str) -> Reader:
    own = replace(STAGES[stage], pictures=SMALL)
    return Reader(stage=own, tokenize=lambda text: [1 + ord(each) for each in text], image_token_id=0, patch=14)


def talks(folder: Path, count: int = 1, seconds: int = 6) -> str:
    """So many conversations about one clip."""
    (folder / "clip.mp4").write_bytes(clips.plain(seconds))
    talk = {"video": "clip.mp4", "conversations": made.talk("<image>\nWhat happens?")}
    (folder / "talks.json").write_text(json.dumps([talk | {"id": str(number)} for number in range(count)]))
    return f"llava={folder / 'talks.json'}"


def loader(word: str, look: Look, stage: str = "elva-3", budget: int = 512) -> Loader:
    order = Order(lanes=1, budget=budget, window=1)
    return Loader([open_feed(word, look)], reader(stage), order, ahead=Ahead(threads=2, steps=1))


def first(word: str, look: Look, stage: str = "elva-3", budget: int = 512) -> Batch:
    with loader(word, look, stage, budget) as steps:
        return next(iter(steps))[0]


def test_a_clip_s_frames_are_whole_seconds_and_as_many_as_were_planned(tmp_path: Path, decoders: Counted) -> None:
    word = talks(tmp_path)
    for most, planned in ((4, 4), (9, 6)):
        batch = first(word, Look(frames=most, clips=decoders))
        assert batch.bad == {} and {len(each) for each in batch.pictures_F3HW} == {planned}
        seconds = batch.pictures_F3HW[0].float()
        assert all(not torch.equal(one, other) for one, other in itertools.pairwise(seconds)), (
            "each second looks different"
        )


def test_a_committed_clip_is_seen_in_as_many_frames_as_its_ledger_and_the_stage_allow(
    out: Path, decoders: Counted
) -> None:
    for most, taken in ((4, {4}), (32, {6, 7})):  # one was looked at in pairs of frames
        batch = first(str(out), Look(frames=most, clips=decoders), "elva-2", 2048)
        assert batch.bad == {} and {len(each) for each in batch.pictures_F3HW} == taken


def test_of_a_long_list_only_clips_whose_turn_has_come_are_opened(tmp_path: Path, decoders: Counted) -> None:
    word, before = talks(tmp_path, count=3000, seconds=2), decoders.opened
    batch = first(word, Look(frames=2, clips=decoders))
    assert batch.samples and batch.bad == {}
    assert decoders.opened - before < 60, "a window's, of thousands"


def test_a_decoder_process_that_is_killed_costs_no_sample_and_not_the_trainer(
    tmp_path: Path, decoders: Counted
) -> None:
    with loader(talks(tmp_path, count=40, seconds=2), Look(frames=2, clips=decoders)) as steps:
        for step in itertools.islice(steps, 4):
            assert step[0].samples and step[0].bad == {}
            assert decoders.pids and os.getpid() not in decoders.pids
            for pid in decoders.pids:
                with suppress(ProcessLookupError):  # it may have been replaced meanwhile
                    os.kill(pid, signal.SIGKILL)


def test_a_clip_that_is_none_is_left_out_with_its_reason(tmp_path: Path, decoders: Counted) -> None:
    word = talks(tmp_path, count=3)
    rows = json.loads((tmp_path / "talks.json").read_text())
    (tmp_path / "page.mp4").write_bytes(b"<html>")
    rows[0]["video"], rows[1]["video"] = "page.mp4", "gone.mp4"
    (tmp_path / "talks.json").write_text(json.dumps(rows))
    row = next(iter(Lane(0, [open_feed(word, Look(clips=decoders))], reader("elva-3"), Order(lanes=1, budget=512))))
    assert {each.entry.key for each in row.samples} == {"2"}
    assert row.position["left_out"].keys() == {"undecodable_video", "missing"}


def test_clips_are_not_opened_outside_of_their_decoders(tmp_path: Path) -> None:
    with pytest.raises(OutOfService, match="enter ClipDecoders"):
        first(talks(tmp_path), Look(frames=2))


def most_held() -> int:
    """Bytes: the most this process has held since the last call."""
    told = Path("/proc/self/status").read_text().partition("VmHWM:")[2]
    Path("/proc/self/clear_refs").write_text("5")
    return int(told.split()[0]) << 10


def test_a_large_clip_of_a_list_is_never_held(tmp_path: Path, decoders: Counted) -> None:
    word, large = talks(tmp_path, seconds=2), 2**29
    with (tmp_path / "clip.mp4").open("ab") as clip:  # a box that players pass over
        clip.write(large.to_bytes(4) + b"free")
        clip.truncate(clip.tell() + large - 8)
    most_held()
    before = most_held()
    assert first(word, Look(frames=2, clips=decoders)).bad == {}
    assert most_held() - before < large // 2


def test_a_large_committed_clip_is_lent_as_a_file_and_is_the_very_same(
    out: Path, decoders: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = Look(frames=4, clips=decoders)
    held = first(str(out), look, "elva-2", 2048)
    monkeypatch.setattr(reading, "HELD_BYTES", 1000)
    (shard, *_) = reading.open_corpus(str(out))[1]
    media, row = shard.media(), shard.rows()[0]
    large = media.held(row.key)
    assert isinstance(large, Spooled) and large.sha256 == row.sha256
    assert b"".join(large.chunks()) == media.read(row.key)
    lent = first(str(out), look, "elva-2", 2048)
    assert lent.bad == {}
    for ours, theirs in zip(held.pictures_F3HW, lent.pictures_F3HW, strict=True):
        assert torch.equal(ours, theirs)
