"""Sources: samples out of members, rows for what belongs to none, names for shards, fields under our names."""

from __future__ import annotations

import json
import sys
import time
import tracemalloc
from pathlib import Path

import pytest

from captioner.errors import Refused, SourceError, UnknownPart
from captioner.reasons import REASONS, SHARD_REASONS
from captioner.registry import build, part, settings_of
from captioner.types import Broken, Sample, ShardInput
from shards.blob import Blob, FileBlob, Listed, MemoryBlob, Source
from shards.keys import SeenKeys
from shards.samples import MetaOf, TarReading
from shards.sources import SOURCES
from shards.sources.folder import META as FOLDER_META
from shards.sources.folder import FolderReading
from shards.sources.img2dataset import public_url
from shards.sources.tars import shard_names
from shards.sources.valor import META as VALOR_META
from shards.sources.webvid import META as WEBVID_META
from tests.tars import broken, good, header, member, octal, padded, reading_of, rows_of, samples_of, tar_of

END = bytes(1024)
IMAGE = b"\xff\xd8\xff picture"


def one(*items: tuple[str, bytes]) -> Sample | Broken:
    (row,) = rows_of(tar_of(items))
    return row


def sidecar(text: bytes) -> Sample:
    row = one(("k.jpg", IMAGE), ("k.json", text))
    assert isinstance(row, Sample)
    return row


def test_adjacent_members_of_one_key_are_one_sample() -> None:
    row = one(("d/k.txt", "a dög\n".encode()), ("d/k.jpg", IMAGE), ("d/k.json", b'{"uid": "7"}'), ("d/k.npz", b"PK"))
    assert isinstance(row, Sample)
    assert (row.key, row.kind, row.media, row.member_offset, row.flags) == ("d/k", "image", IMAGE, 1024, frozenset())
    assert row.meta == {"caption": "a dög", "sidecar": {"uid": "7"}}


def test_extensions_are_compared_in_lower_case() -> None:
    assert isinstance(one(("k.JPG", IMAGE), ("k.TXT", b"t")), Sample)


def test_the_same_extension_twice_keeps_the_first() -> None:  # case 13
    rows = rows_of(tar_of([("k.jpg", IMAGE), ("k.jpg", b"2"), ("k.JPG", b"3"), ("k.png", b"4")]))
    assert [row.media for row in good(rows)] == [IMAGE]
    assert [row.reason for row in rows if isinstance(row, Broken)] == ["duplicate_member"] * 3
    (detail,) = [row.detail for row in rows if isinstance(row, Broken) and row.key == "k.jpg@1024"]
    assert detail == "k.jpg: the first is at byte 0, this one at byte 1024"


def test_a_split_key_never_lends_its_caption() -> None:  # case 14
    rows = rows_of(tar_of([("k.jpg", IMAGE), ("j.jpg", IMAGE), ("k.txt", b"late"), ("k.json", b"{}")]))
    assert [(row.key, row.meta["caption"]) for row in good(rows)] == [("k", None), ("j", None)]
    assert broken(rows) == [("k.txt@2048", "split_sample")]


def test_a_picture_alone_is_a_sample_and_sidecars_alone_are_not() -> None:  # case 15
    assert isinstance(one(("k.jpg", IMAGE)), Sample)
    assert broken([one(("k.json", b"{}"), ("k.txt", b"t"))]) == [("k", "no_media")]
    assert broken([one(("k.npz", b"PK"))]) == [("k", "no_media")]


@pytest.mark.parametrize(
    "text",
    [
        b"{",
        b"[1]",
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": 1e999}',
        b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a": ' + b"[" * 40 + b"]" * 40 + b"}",
        b'{"a": "\\ud800"}',
        b'{"a": "\xff"}',
        b'{"a": "' + b"x" * (1 << 20) + b'"}',
        b'{"a": ' + b"9" * 5000 + b"}",
    ],
    ids=["cut", "list", "NaN", "infinity", "1e999", "deep", "deeper than 32", "surrogate", "bytes", "1 MiB", "digits"],
)
def test_a_bad_sidecar_is_dropped_and_its_picture_kept(text: bytes) -> None:  # case 16
    row = sidecar(text)
    assert (row.media, row.meta["sidecar"], set(row.flags)) == (IMAGE, None, {"bad_sidecar"})


def test_a_sidecars_integers_stay_exact() -> None:
    numbers = [1 << 64, -(1 << 63) - 1, 10**30, 12345678901234567890]
    for text in ('{"a": %d}', '{"a":%d}', '{"a": [0,%d]}', '{"a":[%d, "b"]}', '{"a":\n%d}'):
        for number in numbers:
            raw = (text % number).encode()
            assert sidecar(raw).meta["sidecar"] == json.loads(raw)


def test_a_bad_caption_file_is_dropped_and_its_picture_kept() -> None:  # case 16
    row = one(("k.jpg", IMAGE), ("k.txt", b"\xff\xfe"), ("k.json", b'{"a": 1}'))
    assert isinstance(row, Sample)
    assert row.meta == {"caption": None, "sidecar": {"a": 1}}
    assert row.flags == {"bad_sidecar"}


@pytest.mark.parametrize("extension", ["pyd", "pkl", "pt", "seg.png", "jpg.gz", "exe"])
def test_unknown_extensions_are_rows_and_never_opened(extension: str) -> None:  # case 17
    assert broken([one((f"k.{extension}", b"cposix\nsystem\n"))]) == [("k", "unsupported_extension")]
    rows = rows_of(tar_of([("k.jpg", IMAGE), (f"k.{extension}", b"x"), ("k.txt", b"t")]))
    assert [row.meta["caption"] for row in good(rows)] == ["t"]
    assert broken(rows) == [(f"k.{extension}@1024", "unsupported_extension")]


def test_names_without_key_or_extension_are_rows() -> None:
    rows = rows_of(tar_of([("README", b""), ("k.jpg", IMAGE), (".hidden.jpg", IMAGE), ("README@0.jpg", IMAGE)]))
    assert [row.key for row in good(rows)] == ["k"]
    assert [reason for _, reason in broken(rows)] == ["unsupported_extension", "unsupported_extension", "split_sample"]


def test_a_damaged_picture_gives_its_sample_one_row() -> None:
    big = header(b"k.jpg", octal(3 << 20)) + bytes(3 << 20) + member(b"k.txt", b"t") + member(b"j.jpg", b"1") + END
    assert broken(rows_of(big)) == [("k", "member_too_large")]
    cut = member(b"j.jpg", b"1") + member(b"k.txt", b"t") + header(b"k.jpg", octal(900)) + b"x" * 100
    assert broken(rows_of(cut)) == [("k", "truncated_member")]
    link = member(b"k.jpg", b"", b"2") + member(b"k.txt", b"t") + END
    assert broken(rows_of(link)) == [("k", "unsupported_member_type")]


def test_a_cut_sidecar_is_a_row_beside_its_flagged_sample() -> None:
    rows = rows_of(member(b"k.jpg", IMAGE) + header(b"k.txt", octal(900)) + b"x" * 100)
    assert [(row.key, set(row.flags)) for row in good(rows)] == [("k", {"bad_sidecar"})]
    assert broken(rows) == [("k.txt@1024", "truncated_member")]


def test_every_reason_is_on_the_closed_list() -> None:
    data = tar_of([*samples_of(3), ("a.txt", b""), ("b.pkl", b""), ("00000.jpg", b"")])
    for cut in range(0, len(data), 301):
        reading = reading_of(data[:cut] + data[cut + 100 :])
        assert {row.reason for row in reading if isinstance(row, Broken)} <= REASONS.keys()
        assert set(reading.flags) <= SHARD_REASONS.keys()


def test_take_stops_after_so_many_rows_and_raises_no_flag() -> None:
    data = tar_of([("a.pkl", b""), *samples_of(9)])
    reading = reading_of(data, take=3)
    assert [row.key for row in reading] == ["a", "00000", "00001"]
    assert (reading.account.bytes_accounted, reading.flags) == (len(data), ())
    assert reading.account.unread_bytes > 0
    with pytest.raises(RuntimeError, match="once"):
        list(reading)


def test_a_million_keys_are_remembered_in_little_memory() -> None:  # case 19
    tracemalloc.start()
    seen = SeenKeys()
    assert all(seen.add(f"{number:09d}") for number in range(300_000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert not any(seen.add(f"{number:09d}") for number in range(0, 300_000, 1000))
    assert peak < 300_000 * 48


def test_many_tiny_members_cost_the_same_each() -> None:  # case 19
    def seconds_each(count: int) -> float:
        data = b"".join(header(b"%d.jpg" % number, octal(1)) + padded(b"x") for number in range(count)) + END
        best = sys.float_info.max
        for _ in range(3):
            started = time.process_time()
            assert sum(1 for _ in reading_of(data)) == count
            best = min(best, time.process_time() - started)
        return best / count

    assert seconds_each(40_000) < 2 * seconds_each(4_000)


# Sources


def listed(*urls: str) -> list[Listed]:
    return [Listed(url=url, size=len(url), etag=f"e-{url}") for url in urls]


def source(name: str, **settings: object) -> Source:
    made: Source = build(SOURCES, name, settings)
    return made


def read(name: str, fields: object, *more: tuple[str, bytes]) -> Sample:
    blob = MemoryBlob(tar_of([("k.jpg", IMAGE), ("k.json", json.dumps(fields).encode()), *more]))
    shard = ShardInput(shard="s", url="s.tar", size=blob.size, etag=blob.etag)
    (row,) = source(name).read(shard, lambda url, etag: blob)
    assert isinstance(row, Sample)
    return row


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_builds_from_its_table(name: str) -> None:
    assert part(SOURCES, name).version == 1
    assert "max_member_bytes" in settings_of(SOURCES, name)
    with pytest.raises(UnknownPart, match="max_member_bytes"):
        source(name, max_member_byte=3)


@pytest.mark.parametrize("name", SOURCES)
def test_an_input_without_shards_is_refused_with_what_would_be_right(name: str) -> None:
    with pytest.raises(Refused, match=r"pipelines/recap_"):
        source(name).plan(listed("s3://b/x.parquet"))
    with pytest.raises(Refused, match="nothing at all"):
        source(name).plan([])


def test_clips_where_tars_should_be_are_told_which_script_takes_them() -> None:
    with pytest.raises(Refused, match=r"for plain clips pipelines/recap_clips\.py"):
        source("webvid").plan(listed("s3://b/a.mp4"))


def test_tars_are_planned_in_order_under_their_names() -> None:
    shards = source("datacomp").plan(listed("s3://b/00001.tar", "s3://b/00000.tar", "s3://b/00000_stats.json"))
    assert [(s.shard, s.url, s.etag) for s in shards] == [
        ("00000", "s3://b/00000.tar", "e-s3://b/00000.tar"),
        ("00001", "s3://b/00001.tar", "e-s3://b/00001.tar"),
    ]


def test_shards_of_one_name_are_told_apart() -> None:
    assert shard_names(["s3://b/x/0.tar", "s3://b/y/0.tar", "s3://b/1.tar"]) == ["x-0", "y-0", "1"]
    strange = ["s3://b/a b.tar", "s3://b/a_b.tar", "s3://b/A_B.tar", "s3://b/é.tar", "s3://b/.tar", "s3://b/...tar"]
    strange += ["file:///x/p%2Fq/" + "n" * 300 + ".tar", "s3://p/b/c/d/0.tar", "s3://q/b/c/d/0.tar"]
    names = shard_names(strange)
    assert len({name.lower() for name in names}) == len(strange)
    for name in names:
        assert name.replace("-", "").replace("_", "").replace(".", "").isalnum() and name.isascii()
        assert len(name) < 150 and name[0] not in ".-"


def test_datacomp_fields_have_our_names() -> None:
    fields: dict[str, object] = {
        "uid": "u",
        "sha256": "f" * 64,
        "key": "000000001",
        "url": "https://e.org/a.jpg",
        "caption": "a dog",
    }
    fields |= {"width": 512, "height": 384, "original_width": 1024, "original_height": 768, "status": "success"}
    scores = {"clip_l14_similarity_score": 0.25, "clip_b32_similarity_score": 0.5}
    meta = dict(read("datacomp", {**fields, **scores}).meta)
    assert meta.pop("sidecar") == {**fields, **scores}
    fields.pop("status")
    assert meta == {**fields, **scores, "similarity": 0.25}


def test_laion_fields_have_our_names_in_either_case() -> None:
    upper: dict[str, object] = {
        "URL": "https://e.org/a.jpg",
        "TEXT": "a dog",
        "WIDTH": 9,
        "HEIGHT": 8,
        "SIMILARITY": 0.3,
        "NSFW": "UNLIKELY",
    }
    meta = read("laion", upper | {"punsafe": 0.01, "pwatermark": 0.2}).meta
    assert {name: meta[name] for name in ("caption", "width", "height", "similarity", "punsafe", "pwatermark")} == {
        "caption": "a dog",
        "width": 9,
        "height": 8,
        "similarity": 0.3,
        "punsafe": 0.01,
        "pwatermark": 0.2,
    }


def test_of_sa_1b_s_json_the_picture_s_own_part_is_kept_and_no_mask() -> None:
    image = {"image_id": 223750, "width": 2250, "height": 1500, "file_name": "sa_223750.jpg"}
    masks = [{"id": 1, "bbox": [0, 0, 9, 9], "segmentation": {"size": [1500, 2250], "counts": "abc"}}] * 3
    assert dict(read("sa1b", {"image": image, "annotations": masks}).meta) == {"sidecar": {"image": image}}
    assert dict(read("sa1b", {"annotations": masks}).meta) == {}
    assert dict(read("sa1b", {"image": 7}).meta) == {}


def test_a_caption_file_goes_before_the_jsons_caption_and_wrong_types_are_left_out() -> None:
    row = read(
        "datacomp", {"caption": "json", "width": "512", "uid": 7, "height": True, "sha256": None}, ("k.txt", b"txt")
    )
    assert {name: value for name, value in row.meta.items() if name != "sidecar"} == {"caption": "txt"}


@pytest.mark.parametrize(
    ("url", "public"),
    [
        ("https://e.org/a.jpg?w=5&h=6", "https://e.org/a.jpg?w=5&h=6"),
        ("https://e.org/a.jpg?w=5&X-Amz-Signature=s&X-Amz-Date=d", "https://e.org/a.jpg?w=5"),
        ("https://e.org/a.jpg?AWSAccessKeyId=k&Expires=1&Signature=s", "https://e.org/a.jpg"),
        ("https://e.blob.core.windows.net/a.jpg?sv=2020&se=1&sig=s", "https://e.blob.core.windows.net/a.jpg"),
        ("https://user:secret@e.org/a.jpg", "https://e.org/a.jpg"),
        ("http://[/a?sig=s", "http://[/a"),
    ],
)
def test_urls_are_kept_without_what_lets_their_bearer_in(url: str, public: str) -> None:
    assert public_url(url) == public
    meta = read("datacomp", {"url": url}).meta
    assert (meta["url"], meta["sidecar"]) == (public, {"url": public})


@pytest.mark.parametrize("meta_of", [WEBVID_META, VALOR_META, FOLDER_META["video"]], ids=["webvid", "valor", "folder"])
@pytest.mark.parametrize("name", ["url", "contentUrl", "video_url"])
def test_no_clips_sidecar_keeps_what_lets_the_bearer_of_its_url_in(meta_of: MetaOf, name: str) -> None:
    signed = "https://user:secret@e.org/a.mp4?X-Amz-Credential=k&X-Amz-Signature=s"
    meta = meta_of(None, {name: signed, "duration": 12.5})
    assert (meta["url"], meta["sidecar"][name]) == ("https://e.org/a.mp4",) * 2
    assert meta["source_seconds"] == 12.5


def test_another_object_than_the_planned_one_is_refused() -> None:  # case 20
    data = tar_of(samples_of(1))
    shard = ShardInput(shard="s", url="s.tar", size=len(data), etag="planned")
    with pytest.raises(SourceError, match="source_changed"):
        source("laion").read(shard, lambda url, etag: MemoryBlob(data, "other"))


def open_file(url: str, etag: str) -> Blob:
    return FileBlob(Path(url))


def folder_listing(root: Path) -> list[Listed]:
    files = [path for path in sorted(root.rglob("*")) if path.is_file()]
    return [Listed(url=str(path), size=path.stat().st_size, etag=FileBlob(path).etag) for path in files]


def test_a_folder_of_pictures_is_read_with_its_sidecars(tmp_path: Path) -> None:
    (tmp_path / "v1.0").mkdir()
    for name, data in {
        "v1.0/a.jpg": IMAGE,
        "v1.0/a.txt": b"a dog",
        "v1.0/a.json": b'{"url": "https://e.org/a"}',
        "b.PNG": b"2",
        "b.TXT": b"a cat",
        "b.jpg": b"3",
        "b.x.jpg": b"4",
        "b_x.jpg": b"5",
        "c.jpg": b"6" * 100,
        "notes.md": b"",
        "lone.txt": b"",
    }.items():
        (tmp_path / name).write_bytes(data)
    folder = source("folder", max_member_bytes=99)
    (shard,) = folder.plan(folder_listing(tmp_path))
    reading = folder.read(shard, open_file)
    assert isinstance(reading, FolderReading)
    rows = {row.key: row for row in reading}
    assert rows["v1_0/a"].meta == {  # type: ignore[union-attr]
        "caption": "a dog",
        "url": "https://e.org/a",
        "sidecar": {"url": "https://e.org/a"},
    }
    assert rows["b"].meta["caption"] == "a cat"  # type: ignore[union-attr]
    assert sorted(row.media for row in good(rows.values())) == sorted([IMAGE, b"2", b"3", b"4", b"5"])
    assert broken(rows.values()) == [("c", "member_too_large")]
    assert all(row.member_offset is None for row in rows.values())
    assert (reading.account.unread_bytes, reading.account.bytes_accounted) == (100, shard.size)


@pytest.mark.parametrize("root", ["s3://bucket/", "file:///disk/"])
def test_names_too_long_for_a_key_are_rows_that_differ_though_they_look_alike(root: str) -> None:
    names = [f"{'n' * 300}/{'n' * 800}{number}.jpg" for number in range(3)] + ["a.jpg"]
    folder = source("folder")
    (shard,) = folder.plan([Listed(url=root + name, size=len(IMAGE), etag="e") for name in names])
    rows = list(folder.read(shard, lambda url, etag: MemoryBlob(IMAGE, "e")))
    assert [row.reason for row in rows if isinstance(row, Broken)] == ["bad_member_name"] * 3
    assert len({row.key for row in rows}) == 4


def test_a_folders_shards_change_with_their_members_only(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"{number}.jpg").write_bytes(IMAGE)
    folder = source("folder", pictures_per_shard=2)
    before = folder.plan(folder_listing(tmp_path))
    assert [s.shard for s in before] == ["pictures-00000", "pictures-00001", "pictures-00002"]
    (tmp_path / "3.txt").write_bytes(b"t")
    after = folder.plan(folder_listing(tmp_path))
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, False, True]
    (tmp_path / "0.jpg").write_bytes(IMAGE + b"more")
    with pytest.raises(SourceError, match="source_changed"):
        list(folder.read(after[0], open_file))


def test_a_local_file_is_read_from_any_offset(tmp_path: Path) -> None:
    data = tar_of(samples_of(20))
    (tmp_path / "s.tar").write_bytes(data)
    blob = FileBlob(tmp_path / "s.tar")
    assert b"".join(blob.chunks(777)) == data[777:]
    reading = TarReading(blob, shard="s", meta_of=lambda caption, fields: {})
    assert [row.key for row in reading] == [f"{number:05d}" for number in range(20)]
