"""The bad tars, by case: each has good pictures in it, and the reasons of its rows and of its shard."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from tests.corpora import picture
from tests.tars import header, member, octal, padded, tar_of

END = bytes(1024)
MOST_MEMBER_BYTES = 40 * 2**20  # what these tests set: a larger member need not be 64 MiB


@dataclass(frozen=True, slots=True, kw_only=True)
class BadTar:
    """rows: reasons of those not captioned, in any order. captioned: how many are. flags: the shard's."""

    case: int
    name: str
    make: Callable[[], bytes]
    rows: tuple[str, ...] = ()
    captioned: int = 1
    flags: tuple[str, ...] = ()


@lru_cache
def photo(number: int) -> bytes:
    return picture(10_000 + number)


def sample(key: str, number: int) -> list[tuple[str, bytes]]:
    """A good sample as img2dataset lays it out."""
    return [(f"{key}.jpg", photo(number)), (f"{key}.json", b'{"uid": "1"}'), (f"{key}.txt", b"alt text")]


def sound(*numbers: int) -> bytes:
    return tar_of([part for number in numbers for part in sample(f"{number:05d}", number)])


def body(*numbers: int) -> bytes:
    """A sound tar without its end."""
    return b"".join(member(name.encode(), data) for n in numbers for name, data in sample(f"{n:05d}", n))


def cut_in_data() -> bytes:
    whole = body(30)
    return whole + member(b"00031.jpg", photo(31))[:2000]


def cut_in_header() -> bytes:
    return body(40) + member(b"00041.jpg", photo(41))[:200]


def garbage_header() -> bytes:
    data = bytearray(body(50, 51, 52) + END)
    at = len(body(50))
    data[at : at + 512] = b"\xee" * 512
    return bytes(data)


def sized(number: int, size: bytes) -> bytes:
    return header(f"{number:05d}.png".encode(), size) + padded(b"abc" * 100) + body(number + 1) + END


def huge_member() -> bytes:
    return member(b"00090.jpg", bytes(MOST_MEMBER_BYTES + 512)) + body(91) + END


def long_name() -> bytes:
    return member(b"././@LongLink", b"n" * 10_000_000, b"L") + member(b"n", b"1") + body(100) + END


def odd_types() -> bytes:
    link = bytearray(header(b"00110.jpg", octal(0), b"2"))
    kinds = b"".join(header(b"%05d.jpg" % (112 + n), octal(0), kind) for n, kind in enumerate((b"1", b"3", b"4", b"6")))
    return bytes(link) + kinds + body(111) + END


def bad_names() -> bytes:
    names = (b"../../x.jpg", b"/etc/x.jpg", b"a\\b.jpg", b"\xff\xfe.jpg", b"a\nb.jpg")
    return b"".join(member(name, photo(120)) for name in names) + body(121) + END


def doubled() -> bytes:
    return tar_of([("k.jpg", photo(130)), ("k.jpg", photo(131)), ("k.txt", b"text")])


def split() -> bytes:
    return tar_of([("k.jpg", photo(140)), ("j.jpg", photo(141)), ("k.txt", b"text")])


def halves() -> bytes:
    return tar_of([("a.jpg", photo(150)), ("b.json", b"{}"), ("c.txt", b"text")])


def bad_sidecars() -> bytes:
    texts = (b"{", b"[" * 100_000, b'{"a": NaN}', b'{"a": "\\ud800"}', b"\xff\xfe{}", b"[]")
    return tar_of(
        [part for n, text in enumerate(texts) for part in ((f"{n}.jpg", photo(160 + n)), (f"{n}.json", text))]
    )


def pickles() -> bytes:
    return tar_of([("a.pkl", b"cos\nsystem\n"), ("b.pt", b"x"), ("c.pyd", b"x"), *sample("d", 170)])


def many_tiny() -> bytes:
    return tar_of([(f"{n:06d}.json", b"{}") for n in range(3000)] + sample("z", 190))


BAD_TARS: tuple[BadTar, ...] = (
    BadTar(case=1, name="empty", make=bytes, captioned=0, flags=("empty_shard",)),
    BadTar(case=2, name="not-a-tar", make=lambda: b"<html>404</html>" * 99, captioned=0, flags=("not_a_tar",)),
    BadTar(case=3, name="cut-in-data", make=cut_in_data, rows=("truncated_member",), flags=("truncated",)),
    BadTar(case=4, name="cut-in-header", make=cut_in_header, flags=("truncated",)),
    BadTar(case=4, name="no-end", make=lambda: body(45), flags=("missing_eof",)),
    BadTar(
        case=5,
        name="garbage-header",
        make=garbage_header,
        rows=("corrupt_header", "no_media"),
        captioned=2,
        flags=("corrupt",),
    ),
    BadTar(case=6, name="concatenated", make=lambda: sound(60) + sound(61), captioned=2, flags=("concatenated",)),
    BadTar(case=7, name="negative-size", make=lambda: sized(70, b"\xff" * 12), rows=("bad_size",), flags=("corrupt",)),
    BadTar(
        case=8,
        name="size-of-2-to-the-60",
        make=lambda: sized(80, b"\x80" + (1 << 60).to_bytes(11, "big")),
        rows=("bad_size",),
        flags=("corrupt",),
    ),
    BadTar(case=9, name="huge-member", make=huge_member, rows=("member_too_large",)),
    BadTar(case=10, name="long-name", make=long_name, rows=("header_too_large",)),
    BadTar(case=11, name="odd-types", make=odd_types, rows=("unsupported_member_type",) * 5),
    BadTar(case=12, name="bad-names", make=bad_names, rows=("bad_member_name",) * 5),
    BadTar(case=13, name="doubled", make=doubled, rows=("duplicate_member",)),
    BadTar(case=14, name="split", make=split, rows=("split_sample",), captioned=2),
    BadTar(case=15, name="halves", make=halves, rows=("no_media",) * 2),
    BadTar(case=16, name="bad-sidecars", make=bad_sidecars, captioned=6),
    BadTar(case=17, name="pickles", make=pickles, rows=("unsupported_extension",) * 3),
    BadTar(case=18, name="same-sample-a", make=lambda: sound(180)),
    BadTar(case=18, name="same-sample-b", make=lambda: sound(180)),
    BadTar(case=19, name="many-tiny", make=many_tiny, rows=("no_media",) * 3000),
    # The test writes it anew once the plan has it.
    BadTar(case=20, name="changed", make=lambda: sound(200), captioned=0, flags=("source_changed",)),
)
