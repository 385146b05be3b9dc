"""Clips through the whole line: from WebVid's tars, VALOR's and folders to a corpus, and what is too large to hold."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest
import tyro
import webdataset

from captioner.errors import Refused
from captioner.recipe import Recipe
from captioner.types import Broken, Sample
from pipelines.options import options_class, recipe_from
from pipelines.preflight import plan as preflight
from pipelines.recap_clips import CLIPS
from pipelines.recap_valor import VALOR
from pipelines.recap_webvid import WEBVID
from pipelines.report import write_report
from shards.blob import MemoryBlob
from shards.pack import Packed, pack, tar_of
from shards.samples import CLIPS as CLIP_NAMES
from shards.samples import TarReading
from shards.sources.valor import META as VALOR_META
from shards.sources.webvid import META as WEBVID_META
from shards.spool import HELD_BYTES
from shards.store import Store
from tests.clips import H264, Coding, at_rate, box, clip, plain
from tests.corpora import planned, run_here
from tests.processes import recap

SECONDS = 3


def webvid() -> list[Packed]:
    """Three clips, a page that was saved for one, a cut one and a small one."""
    small = Coding(options=H264, width=64, height=64, square=4)
    media = [
        plain(SECONDS),
        plain(4),
        plain(5),
        b"<html>404</html>",
        plain(SECONDS)[:4000],
        clip(small, at_rate(25, 50)),
    ]
    return [
        Packed(
            key=f"{number:08d}",
            extension="mp4",
            media=each,
            caption=f"title {number}",
            fields={"videoid": str(number), "contentUrl": f"https://clips.example/{number}.mp4", "duration": 3.0},
        )
        for number, each in enumerate(media)
    ]


def recipe(dataset: object = WEBVID, *arguments: str) -> Recipe:
    words = ["--input", "in", "--output", "out", "--engine", "fake", *arguments]
    return recipe_from(dataset, tyro.cli(options_class(dataset), args=words))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run over WebVid's shard, captioned by the fake engine."""
    folder = tmp_path_factory.mktemp("webvid")
    pack(Store(str(folder / "in")), webvid(), 10)
    asked = recipe()
    (done,) = run_here(asked, planned(asked, folder / "in"), folder / "out")
    assert done.counts == {"read": 6, "captioned": 3, "filtered": 1, "unreadable": 2, "rejected": 0, "failed": 0}
    return folder / "out"


def test_webdataset_reads_the_corpus_and_the_clips_are_unchanged(corpus: Path) -> None:
    tars = sorted(map(str, corpus.glob("data/*.tar")))
    read = {sample["__key__"]: sample for sample in webdataset.WebDataset(tars, shardshuffle=False)}
    assert {key: sample["mp4"] for key, sample in read.items()} == {each.key: each.media for each in webvid()[:3]}
    record = json.loads(read["00000001"]["json"])
    assert record["frame_times"] == [0.0, 1.0, 2.0, 3.0] and record["duration"] == 4.0
    assert record["source"]["videoid"] == "1" and record["url"] == "https://clips.example/1.mp4"


def test_the_ledger_tells_what_was_seen_of_each_clip_or_why_nothing(corpus: Path) -> None:
    columns = "key, coalesce(reason, outcome), frame_times, duration, width"
    rows = duckdb.sql(f"select {columns} from '{corpus}/data/*.parquet' order by key").fetchall()
    assert rows == [
        ("00000000", "captioned", [0.0, 1.0, 2.0, 2.0], 3.0, 320),
        ("00000001", "captioned", [0.0, 1.0, 2.0, 3.0], 4.0, 320),
        ("00000002", "captioned", [0.0, 1.0, 2.0, 3.0, 4.0, 4.0], 5.0, 320),
        ("00000003", "undecodable_video", None, None, None),
        ("00000004", "bad_container", None, None, None),
        ("00000005", "below_min_resolution", None, 2.0, 64),
    ]


def test_a_corpus_of_clips_is_proved_and_shown(corpus: Path) -> None:
    assert recap("verify", str(corpus)).returncode == 0
    page = Path(write_report(Store(str(corpus)))).read_text()
    strip = page.partition("Clip 00000001 at 0:00")[2]
    assert "Clip 00000001 at 0:03" in strip and "Clip 00000002 at 0:04" in strip


@pytest.mark.parametrize(
    ("meta_of", "sidecar", "expected"),
    [
        (WEBVID_META, {"videoid": "21", "name": "A boat", "page_dir": "p", "contentUrl": "https://c/1.mp4"},
         {"caption": "A boat", "video_id": "21", "page_dir": "p", "url": "https://c/1.mp4"}),
        (VALOR_META, {"video_id": "x_30", "desc": "A dog barks.", "duration": 10},
         {"caption": "A dog barks.", "video_id": "x_30", "source_seconds": 10}),
        (WEBVID_META, {"duration": "PT00H00M15S", "caption": "first", "name": "second"}, {"caption": "first"}),
    ],
)  # fmt: skip
def test_each_datasets_fields_come_under_our_names(meta_of: object, sidecar: dict, expected: dict) -> None:
    meta = meta_of(None, sidecar)  # type: ignore[operator]
    assert meta.pop("sidecar") == sidecar
    assert meta == expected


@pytest.mark.parametrize("dataset", [WEBVID, VALOR, CLIPS])
def test_every_video_script_asks_about_videos_once_a_second(dataset: object) -> None:
    asking = recipe(dataset).asking
    assert asking.frames is not None
    assert (asking.prompt_id, asking.frames.per_second, asking.frames.reader) == ("describe-video-1", 1, "pyav")
    assert asking.frames.pixels.max_pixels == 360 * 420 and asking.frames.multiple_of == 2


def test_frames_are_asked_for_on_the_command_line(tmp_path: Path) -> None:
    frames = recipe(
        WEBVID, "--frames.reader", "decord", "--frames.most", "16", "--frames.per-second", "2"
    ).asking.frames
    assert frames is not None and (frames.reader, frames.max_frames, frames.per_second) == ("decord", 16, 2)
    with pytest.raises(Refused, match="2 or another multiple"):
        recipe(WEBVID, "--frames.most", "15")
    with pytest.raises(Refused, match="pictures"):
        recipe(WEBVID, "--external", "alt-text")
    with pytest.raises(Refused, match="one picture at a time"):
        recipe_from(WEBVID, tyro.cli(options_class(WEBVID), args=[
            *("--input", "in", "--output", "out", "--engine", "vllm"),
            *("--model", "llava-1.6", "--endpoints", "http://127.0.0.1:9"),
        ]))  # fmt: skip


def test_a_folder_of_clips_is_captioned_and_its_pictures_are_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.mp4").write_bytes(plain(SECONDS))
    (folder / "a.txt").write_text("a title")
    (folder / "b.jpg").write_bytes(b"no clip")
    asked = recipe(CLIPS)
    (done,) = run_here(asked, planned(asked, folder), tmp_path / "out")
    assert done.counts["captioned"] == done.counts["read"] == 1
    assert done.shard == "clips-00000"


def test_a_run_over_clips_is_estimated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    pack(Store(str(tmp_path / "in")), webvid()[:3], 10)
    words = ["webvid", "--input", str(tmp_path / "in"), "--engine", "fake", "--json"]
    assert preflight(words, Console()) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["samples"] == 3 and found["prompt_tokens"] > 3 * 2 * 90


def large_clip() -> bytes:
    """A clip of 65 MiB: an ordinary one with a free box in front of its frames' index."""
    data = plain(SECONDS)
    start = box(data, b"moov")[0] - 8
    padding = HELD_BYTES + 2**20
    return data[:start] + (padding + 8).to_bytes(4, "big") + b"free" + bytes(padding) + data[start:]


def test_a_clip_too_large_to_hold_lies_in_a_file_and_comes_out_unchanged(tmp_path: Path) -> None:
    large = large_clip()
    sha256 = hashlib.sha256(large).hexdigest()
    samples = [webvid()[0], replace(webvid()[1], media=large), webvid()[2]]
    reading = TarReading(
        MemoryBlob(tar_of(samples)), shard="a", meta_of=WEBVID_META, media=CLIP_NAMES, max_member_bytes=2**31
    )
    _, read, after = reading
    assert isinstance(read, Sample) and read.large is not None and isinstance(after, Sample)
    assert len(read.media) <= 4096 and read.size == len(large) and read.sha256 == sha256
    assert after.media == samples[2].media and reading.account.skipped_bytes == reading.account.unread_bytes == 0

    pack(Store(str(tmp_path / "in")), samples, 10)
    asked = recipe(WEBVID, "--frames.reader", "decord")
    (done,) = run_here(asked, planned(asked, tmp_path / "in"), tmp_path / "out")
    assert done.counts["captioned"] == done.counts["read"] == 3
    (tar,) = tmp_path.glob("out/data/*.tar")
    with tarfile.open(tar) as opened:
        member = opened.extractfile("00000001.mp4")
        assert member is not None and hashlib.sha256(member.read()).hexdigest() == sha256
        assert opened.getnames() == [f"{key:08d}.{ext}" for key in range(3) for ext in _order(key)]
    assert recap("verify", str(tmp_path / "out")).returncode == 0


def _order(key: int) -> tuple[str, ...]:
    return ("mp4", "json", "txt") if key == 1 else ("json", "mp4", "txt")


def test_a_clip_over_its_limit_is_a_row_and_nothing_of_it_is_kept() -> None:
    reading = TarReading(
        MemoryBlob(tar_of(webvid()[:2])), shard="a", meta_of=WEBVID_META, media=CLIP_NAMES, max_member_bytes=30_000
    )
    rows = list(reading)
    assert {row.reason for row in rows if isinstance(row, Broken)} == {"member_too_large"}


def test_equal_samples_make_equal_shards_large_or_not(tmp_path: Path) -> None:
    pack(Store(str(tmp_path / "in")), webvid()[:2], 10)
    asked = recipe()
    tars = []
    for name in ("one", "two"):
        run_here(asked, planned(asked, tmp_path / "in"), tmp_path / name)
        (tar,) = tmp_path.glob(f"{name}/data/*.tar")
        tars.append(io.BytesIO(tar.read_bytes()).getvalue())
    assert tars[0] == tars[1]
