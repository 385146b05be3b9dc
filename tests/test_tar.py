"""The tar reader against sound, damaged and hostile tars; cases by their number in the list of faults."""

from __future__ import annotations

import io
import tarfile
import time
import tracemalloc

import pytest
import webdataset
from hypothesis import example, given, settings
from hypothesis import strategies as st

from captioner.errors import SourceError
from captioner.types import Sample
from shards.blob import MemoryBlob
from shards.tar import Damage, Member, TarReader
from shards.tar_header import split_name
from tests.tars import (
    CountingBlob,
    broken,
    good,
    header,
    items_of,
    member,
    octal,
    padded,
    rows_of,
    samples_of,
    tar_of,
)

END = bytes(1024)
FORMS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def found(data: bytes) -> list[tuple[str, bytes | str]]:
    items, _ = items_of(data)
    return [(item.name, item.data or b"" if isinstance(item, Member) else item.reason) for item in items]


def flags(data: bytes) -> tuple[str, ...]:
    return items_of(data)[1].flags


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_agrees_with_tarfile_on_sound_tars(form: int) -> None:
    long = "a-folder-with-a-long-name/" * 3 + "0" * 60
    names = [f"{long}/b.jpg", "a.seg.PNG", "a b.txt", "dir.v1/c.d.json", "x" * 100, f"{'d' * 90}/{'e' * 90}.txt"]
    items = [(name, bytes([at + 1]) * (511 + at)) for at, name in enumerate(names)]
    if form != tarfile.USTAR_FORMAT:
        items += [(f"{'é' * 90}.jpg", b""), ("f" * 600, b"1")]
    data = tar_of(items, form)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        theirs = [(entry.name, entry.offset_data - 512, tar.extractfile(entry).read()) for entry in tar]  # type: ignore[union-attr]
    ours, account = items_of(data)
    assert [(item.name, item.offset, item.data) for item in ours if isinstance(item, Member)] == theirs
    assert (account.flags, account.skipped_bytes, account.unread_bytes) == ((), 0, 0)


def test_agrees_with_webdataset_on_keys_extensions_and_bytes() -> None:
    data = tar_of([*samples_of(5), ("a/b.c.JPG", b"1"), ("a/b.txt", b"2")])
    stream = webdataset.tariterators.tar_file_expander([{"url": "s", "stream": io.BytesIO(data)}])
    theirs = [
        {name: value for name, value in sample.items() if name[0] != "_"} | {"key": sample["__key__"]}
        for sample in webdataset.tariterators.group_by_keys(stream)
    ]
    ours: dict[str, dict[str, object]] = {}
    for item in items_of(data)[0]:
        assert isinstance(item, Member)
        ours.setdefault(item.key, {"key": item.key})[item.ext] = item.data
    assert list(ours.values()) == theirs


def test_names_split_as_webdataset_splits_them() -> None:
    split = webdataset.tariterators.base_plus_ext
    for name in ("a.jpg", "a.b.jpg", "d.e/a.jpg", "d.e/f.g/a.b.c", "./a.jpg", "a b/c d.e f"):
        assert split_name(name) == split(name)
    assert split_name("A.JPG") == ("A", "jpg")
    for name in ("README", "d.e/README", ".hidden", "d/.hidden.jpg", "a."):
        assert split_name(name) == (name, "")


@pytest.mark.parametrize("at", [0, 2, 107, 115, 124 + 10, 136 + 3, 265], ids=lambda at: f"byte {at}")
def test_a_header_whose_sum_is_wrong_is_no_member_although_all_else_is_plain(at: int) -> None:
    """One bit of a name, an owner, a size or a time; without the sum it would be a sample of another name."""
    data = bytearray(member(b"a.jpg", b"1") + member(b"b.jpg", b"2") + member(b"c.jpg", b"3") + END)
    data[1024 + at] ^= 1
    assert found(bytes(data)) == [("a.jpg", b"1"), ("", "corrupt_header"), ("c.jpg", b"3")]


def test_old_v7_headers_and_signed_checksums_are_sound() -> None:
    v7 = header(b"old.jpg", b"%7o \0" % 3, b"\0", magic=b"") + padded(b"abc")
    signed = header("é.jpg".encode(), octal(3), signed=True) + padded(b"def")
    assert found(v7 + signed + END) == [("old.jpg", b"abc"), ("é.jpg", b"def")]


def test_base_256_sizes_are_read() -> None:
    size = b"\x80" + (700).to_bytes(11, "big")
    assert found(header(b"a.jpg", size) + padded(b"x" * 700) + END) == [("a.jpg", b"x" * 700)]


def test_pax_size_overrides_the_header() -> None:
    record = b"12 size=700\n"
    data = member(b"PaxHeaders/a", record, b"x") + header(b"a.jpg", octal(0)) + padded(b"x" * 700) + END
    assert found(data) == [("a.jpg", b"x" * 700)]


def test_global_pax_headers_and_folders_are_accounted_and_give_nothing() -> None:
    data = (
        member(b"pax_global_header", b"19 comment=whatever\n", b"g")
        + member(b"d/", b"", b"5")
        + member(b"d/a.jpg", b"1")
    )
    items, account = items_of(data + END)
    assert [item.name for item in items] == ["d/a.jpg"]
    assert (account.header_bytes, account.flags) == (4 * 512, ())


def test_an_object_without_bytes_is_an_empty_shard() -> None:  # case 1
    assert items_of(b"") == ([], items_of(b"")[1])
    assert flags(b"") == ("empty_shard",)


@pytest.mark.parametrize("data", [b"\x1f\x8b" + b"\x99" * 5000, b"<html>404</html>", b"\0" * 700 + b"x" * 700, b"u"])
def test_what_has_no_header_anywhere_is_not_a_tar(data: bytes) -> None:  # case 2
    items, account = items_of(data)
    assert items == []
    assert account.flags == ("not_a_tar",)
    assert account.detail.startswith("first bytes ")


def test_a_tar_without_members_has_no_flag() -> None:
    assert items_of(tar_of([]))[1].flags == ()


def test_a_cut_anywhere_loses_only_what_it_cut() -> None:  # cases 3 and 4
    data = tar_of(samples_of(3))
    whole = [item for item in items_of(data)[0] if isinstance(item, Member)]
    end = whole[-1].offset + 1024
    for cut in [*range(1, end, 61), *range(512, end + 1, 512)]:
        items, account = items_of(data[:cut])
        complete = [item for item in whole if item.offset + 512 + item.size <= cut]
        assert [item for item in items if isinstance(item, Member)] == complete
        inside = [item for item in whole if item.offset + 512 <= cut < item.offset + 512 + item.size]
        assert [(d.offset, d.reason) for d in items if isinstance(d, Damage)] == [
            (item.offset, "truncated_member") for item in inside
        ]
        boundary = cut % 512 == 0 and not inside
        expected = "not_a_tar" if cut < 512 else "missing_eof" if boundary else "truncated"
        assert account.flags == (expected,), cut


def test_a_cut_members_bytes_count_as_unread() -> None:  # case 3
    data = tar_of(samples_of(1))
    assert items_of(data[: 512 + 300])[1].unread_bytes == 300


def test_one_zero_block_at_the_end_is_not_two() -> None:  # case 4
    data = member(b"a.jpg", b"1")
    assert flags(data + bytes(512)) == ("missing_eof",)
    assert flags(data + bytes(1024)) == ()


def test_reading_goes_on_after_a_damaged_header() -> None:  # case 5
    data = bytearray(tar_of(samples_of(3)))
    second = next(item for item in items_of(bytes(data))[0] if item.name == "00001.jpg").offset
    data[second + 5] ^= 4
    items, account = items_of(bytes(data))
    (damage,) = [item for item in items if isinstance(item, Damage)]
    assert (damage.offset, damage.reason) == (second, "corrupt_header")
    assert damage.end == next(item.offset for item in items if item.name == "00001.txt")
    assert (account.flags, account.skipped_bytes) == (("corrupt",), damage.end - damage.offset)
    assert len(items) == 9


def test_a_tar_with_its_headers_shifted_is_found_again() -> None:
    data = tar_of(samples_of(2))
    assert [n for n, _ in found(b"junk" + data)][1:] == [n for n, _ in found(data)]


def test_a_member_that_swallowed_others_is_damaged_and_they_are_found() -> None:
    big = bytes(range(1, 251)) * 40
    data = tar_of([("a.jpg", big), ("b.jpg", b"b" * 900), ("c.jpg", b"c" * 900), ("d.jpg", b"d")])
    assert found(data[:700] + data[700 + 3500 :]) == [
        ("a.jpg", "truncated_member"),
        *(("b.jpg", b"b" * 900), ("c.jpg", b"c" * 900), ("d.jpg", b"d")),
    ]


def test_zero_blocks_in_the_middle_do_not_end_a_shard() -> None:  # case 6
    first, second = tar_of(samples_of(2)), tar_of(samples_of(2, start=2))
    assert found(first + second) == found(first) + found(second)
    assert flags(first + second) == ("concatenated",)
    assert flags(member(b"a.jpg", b"1") + bytes(512) + member(b"b.jpg", b"1") + END) == ("concatenated",)


@pytest.mark.parametrize(
    "size",
    [b"\xff" * 12, b"\x80" + (1 << 60).to_bytes(11, "big"), b"-0000000001\0", b"99999999999\0", b"0x1\0", b"7" * 12],
    ids=["negative", "2^60", "minus", "not octal", "hexadecimal", "64 GiB"],
)
def test_an_impossible_size_is_one_row_and_the_next_member_is_found(size: bytes) -> None:  # cases 7 and 8
    started = time.monotonic()
    data = header(b"a.jpg", size) + padded(b"abc" * 100) + member(b"b.jpg", b"b") + END
    assert found(data) == [("a.jpg", "bad_size"), ("b.jpg", b"b")]
    assert flags(data) == ("corrupt",)
    assert time.monotonic() - started < 1


def test_a_negative_pax_size_is_one_row() -> None:  # case 7
    data = member(b"p", b"12 size=-17\n", b"x") + member(b"a.jpg", b"abc") + member(b"b.jpg", b"b") + END
    assert found(data) == [("a.jpg", "bad_size"), ("b.jpg", b"b")]


def test_a_member_over_the_limit_is_jumped_over_and_memory_stays_flat() -> None:  # case 9
    size = 3 << 30
    blob = CountingBlob(head=header(b"a.jpg", octal(size)), size=512 + size + 2048, tail=member(b"b.jpg", b"b") + END)
    tracemalloc.start()
    reader = TarReader(blob, max_member_bytes=64 << 20)
    items = list(reader)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [(item.name, getattr(item, "reason", "")) for item in items] == [
        ("a.jpg", "member_too_large"),
        ("b.jpg", ""),
    ]
    assert blob.given < 4 << 20 and peak < 8 << 20
    assert (reader.account.bytes_accounted, reader.account.flags) == (blob.size, ())


@pytest.mark.parametrize("kind", [b"L", b"x"])
def test_huge_name_records_are_passed_over(kind: bytes) -> None:  # case 10
    record = b"n" * (10 << 20)
    data = member(b"record", record, kind) + member(b"a.jpg", b"abc") + member(b"b.jpg", b"b") + END
    assert found(data) == [("a.jpg", "header_too_large"), ("b.jpg", b"b")]


def test_many_small_records_before_one_member_are_too_large_together() -> None:  # case 10
    data = (
        member(b"r", b"1000 comment=" + b"n" * 987 + b"\n", b"x") * 70
        + member(b"a.jpg", b"abc")
        + member(b"b.jpg", b"b")
        + END
    )
    assert found(data) == [("a.jpg", "header_too_large"), ("b.jpg", b"b")]


@pytest.mark.parametrize("kind", [b"1", b"2", b"3", b"4", b"6", b"S", b"M", b"Z"])
def test_what_is_no_plain_file_is_never_followed(kind: bytes) -> None:  # case 11
    payload = b"" if kind in b"12346" else b"abc"
    data = member(b"a.jpg", payload, kind) + member(b"b.jpg", b"b") + END
    assert found(data) == [("a.jpg", "unsupported_member_type"), ("b.jpg", b"b")]
    assert flags(data) == ()


def test_old_sparse_maps_and_pax_sparse_files_are_passed_over_whole() -> None:  # case 11
    block = bytearray(header(b"a.jpg", octal(600), b"S"))
    block[482] = 1
    block[148:156] = b"%06o\0 " % (sum(block) - sum(block[148:156]) + 256)
    sparse = bytes(block) + bytes(504) + b"\1" + bytes(7) + bytes(512) + padded(b"x" * 600)
    pax = member(b"p", b"22 GNU.sparse.major=1\n", b"x") + member(b"b.jpg", b"abc")
    assert found(sparse + pax + member(b"c.jpg", b"c") + END) == [
        ("a.jpg", "unsupported_member_type"),
        ("b.jpg", "unsupported_member_type"),
        ("c.jpg", b"c"),
    ]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"../../x.jpg", "../../x.jpg"),
        (b"/etc/x.jpg", "/etc/x.jpg"),
        (b"a\\b.jpg", "a\\\\b.jpg"),
        (b"\xff\xfe.jpg", "\\xff\\xfe.jpg"),
        (b"a\nb.jpg", "a\\nb.jpg"),
        ("a\u202egpj.exe".encode(), "a\\u202egpj.exe"),
        (b"C:/x.jpg", "C:/x.jpg"),
        (b"", ""),
    ],
)
def test_an_unclean_name_is_stored_escaped(name: bytes, shown: str) -> None:  # case 12
    assert found(member(name, b"1") + member(b"b.jpg", b"b") + END) == [(shown, "bad_member_name"), ("b.jpg", b"b")]


def test_long_names_and_names_with_nul_are_bad() -> None:  # case 12
    long = member(b"././@LongLink", b"n" * 5000 + b"\0", b"L") + member(b"n", b"1")
    nul = member(b"p", b"16 path=a\0b.jpg\n", b"x") + member(b"n", b"2")
    items, _ = items_of(long + nul + END)
    assert [item.reason for item in items if isinstance(item, Damage)] == ["bad_member_name"] * 2
    assert items[0].name == "n" * 200 + "... (5000 bytes)"
    assert items[1].name == "a\\x00b.jpg"


def test_malformed_pax_records_spoil_their_member_only() -> None:
    data = member(b"p", b"99 path=b.jpg\n", b"x") + member(b"a.jpg", b"1") + member(b"c.jpg", b"c") + END
    assert found(data) == [("a.jpg", "corrupt_header"), ("c.jpg", b"c")]
    assert flags(data) == ("corrupt",)


def test_a_name_record_without_its_member_is_a_row() -> None:
    record = member(b"././@LongLink", b"long.jpg\0", b"L")
    assert found(member(b"a.jpg", b"1") + record + END) == [("a.jpg", b"1"), ("", "corrupt_header")]
    another = member(b"p", b"14 path=b.jpg\n", b"x") + member(b"b", b"2")
    assert found(record + another + END) == [("", "corrupt_header"), ("b.jpg", b"2")]
    assert found(record + record + member(b"long", b"3") + END) == [("long.jpg", b"3")]


def test_a_lost_long_name_is_no_wrong_name() -> None:
    name = "n" * 150 + ".jpg"
    data = bytearray(tar_of([("a.jpg", b"1"), (name, b"2"), ("b.jpg", b"3")], tarfile.GNU_FORMAT))
    data[1024 + 3] ^= 1
    assert found(bytes(data)) == [("a.jpg", b"1"), ("", "corrupt_header"), ("b.jpg", b"3")]


def test_bytes_that_do_not_come_are_the_stores_fault() -> None:  # case 46
    class Short(MemoryBlob):
        @property
        def size(self) -> int:
            return len(self.data) + 512

    with pytest.raises(SourceError, match="source_corrupt"):
        list(TarReader(Short(tar_of(samples_of(1)))))


def test_time_is_bounded_for_headers_that_claim_each_other() -> None:
    nested = b"".join(header(b"%d.jpg" % at, octal(512 * (3999 - at))) for at in range(4000)) + b"\xee" * 512
    started = time.monotonic()
    items_of(nested)
    items_of(b"ustar\x0000" * 100_000)
    assert time.monotonic() - started < 10


def test_an_early_stop_counts_the_rest_as_unread() -> None:
    data = tar_of(samples_of(4))
    reader = TarReader(MemoryBlob(data))
    next(iter(reader))
    assert reader.account.bytes_accounted == len(data)
    assert (reader.account.flags, reader.account.unread_bytes) == ((), len(data) - 512 - 1024)


def test_reading_in_runs_and_one_by_one_are_the_same() -> None:
    names = (
        b"a.jpg",
        b"a.JPG",
        b"a.t",
        b"a..jpg",
        b"d/",
        b"a",
        b"a.",
        b"/a.t",
        b"a:b.t",
        b"C:/a.t",
        "é.t".encode(),
        b"",
    )
    sizes = (octal(9), b"00000000011 ", b"00000000019\0", b"         11\0", octal(1 << 30))
    parts = [header(name, size, kind) + padded(b"x" * 9) for name in names for size in sizes for kind in (b"0", b"5")]
    for data in (b"".join(parts) + END, bytes(512).join(parts) + END):
        whole, small = (TarReader(MemoryBlob(data, chunk_bytes=size)) for size in (len(data), 511))
        steps = [[(item, reader.account) for item in reader] for reader in (whole, small)]
        assert steps[0] == steps[1] and whole.account == small.account


SAMPLES = 8
SHARDS = {name: tar_of(samples_of(SAMPLES), form) for name, form in FORMS.items()}
SHARDS["gnu long names"] = tar_of([("d" * 120 + "/" + n, d) for n, d in samples_of(SAMPLES)], tarfile.GNU_FORMAT)
SHARDS["pax long names"] = tar_of([("d" * 120 + "/" + n, d) for n, d in samples_of(SAMPLES)], tarfile.PAX_FORMAT)


def spans(data: bytes) -> list[tuple[int, int, Sample]]:
    """Where each sample begins and ends, name records and padding included."""
    rows = list(good(rows_of(data)))
    items, _ = items_of(data)
    ends = [item.offset + 512 + item.size + -item.size % 512 for item in items if isinstance(item, Member)][2::3]
    return list(zip([0, *ends[:-1]], ends, rows, strict=True))


@settings(max_examples=400, deadline=None, derandomize=True)
@given(
    shard=st.sampled_from(sorted(SHARDS)),
    at=st.integers(0, 20_000),
    cut=st.integers(0, 3000),
    added=st.binary(max_size=1500) | st.integers(0, 3000).map(bytes),
)
@example(shard="ustar", at=0, cut=512, added=bytes(512))
@example(shard="ustar", at=700, cut=513, added=b"")
@example(shard="gnu long names", at=18432, cut=1025, added=b"")
@example(shard="gnu long names", at=6669, cut=1, added=b"")
@example(shard="pax long names", at=11428, cut=1024, added=b"")
@example(shard="pax", at=6408, cut=513, added=b"")
def test_any_change_leaves_every_untouched_sample(shard: str, at: int, cut: int, added: bytes) -> None:
    data = SHARDS[shard]
    at %= len(data)
    changed = data[:at] + added + data[at + cut :]
    rows = {row.key: row for row in rows_of(changed)}
    for begin, end, sample in spans(data):
        if end <= at or begin >= at + cut:
            there = rows[sample.key]
            assert isinstance(there, Sample)
            assert (there.media, there.meta) == (sample.media, sample.meta)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(shard=st.sampled_from(sorted(SHARDS)), flips=st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255))))
def test_any_flips_leave_every_untouched_sample(shard: str, flips: list[tuple[int, int]]) -> None:
    data = SHARDS[shard]
    changed = bytearray(data)
    for at, bits in flips:
        changed[at % len(data)] ^= bits
    rows = {row.key: row for row in rows_of(bytes(changed))}
    for begin, end, sample in spans(data):
        if changed[begin:end] == data[begin:end]:
            there = rows[sample.key]
            assert isinstance(there, Sample) and there.media == sample.media


@settings(max_examples=200, deadline=None, derandomize=True)
@given(data=st.binary(max_size=4000), blocks=st.lists(st.sampled_from([header(b"a.jpg", octal(9)), bytes(512)])))
def test_no_bytes_raise_anything(data: bytes, blocks: list[bytes]) -> None:
    rows_of(b"".join(blocks) + data)
    assert broken(rows_of(data + b"".join(blocks))) is not None
