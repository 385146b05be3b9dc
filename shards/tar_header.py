"""One 512-byte tar header, and the long-name records before it: ustar, GNU, pax and old v7."""

from __future__ import annotations

import re
import zlib
from functools import lru_cache
from typing import NamedTuple

BLOCK = 512
ZERO_BLOCK = bytes(BLOCK)
_ASCII = bytes(range(128))

# Type flags.
REGULAR = b"07\0"
NO_DATA = b"12346"  # links, devices and fifos: whatever their size field says, no data follow
DIRECTORY, LONG_NAME, LONG_LINK, SPARSE = b"5LKS"
PAX = b"xX"  # POSIX and Solaris
PAX_GLOBAL = ord("g")

# No clean name has these: nothing at all, an absolute or climbing path, a drive, backslash, control or bidi characters.
_UNCLEAN = re.compile(r"^$|^/|^[A-Za-z]:/|(?:^|/)\.\.(?:/|$)|[\\\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_NO_START = ("", "/")
_NO_NAME = (b"", b"/")
_ORDINARY = bytes(code for code in range(32, 127) if chr(code) not in "\\:")
_new = tuple.__new__  # what a NamedTuple's own constructor calls, at half its time
_UNSHOWN = re.compile(r"[\\\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\udc80-\udcff]")
# The magic of POSIX and of GNU with digits where checksum and size stand before it: finds headers 257 bytes earlier.
MAGIC = re.compile(rb"ustar(?:\x0000|  \x00)(?<=[0-7 \0]{8}.{109})(?<=[0-7 \0\x80-\xff].{140})", re.DOTALL)
MAGIC_AT = 257
_LENGTH = re.compile(rb"([1-9][0-9]{0,5}) ")
MAX_NAME_BYTES = 1024  # what S3 allows a key
MAX_KEY_BYTES = 1000  # of a sample: with any extension behind it, it is still a name that is read back
SHOWN_CHARACTERS = 200


class Header(NamedTuple):
    """A header whose checksum holds. size: bytes, negative where the field says so, None where it is no number.

    A NamedTuple, not a dataclass: one is built for every member, and a frozen dataclass takes 4 times as long.
    """

    name: bytes
    size: int | None
    type: int


class PaxFields(NamedTuple):
    """What an extended header changes of the member after it; None leaves what its own header says."""

    name: bytes | None = None
    size: int | None = None
    sparse: bool = False


def parse(block: bytes) -> Header | None:
    """The header in these 512 bytes, or None where its checksum does not hold."""
    own = block[148:156]
    if block.isascii():  # 512 such bytes are few enough for one Adler-32
        if _sum(block) != stated(own):
            return None
    else:
        total = _sum(block[:256]) + _sum(block[256:])
        if total != stated(own) and total - 256 * _high_bytes(block, own) != stated(own):
            return None
    name = block[: block.find(b"\0")] if block[99] == 0 else block[:100].split(b"\0", 1)[0]
    if block[345] and block[257:263] == b"ustar\0":  # GNU keeps other things where ustar has its prefix
        name = block[345:500].split(b"\0", 1)[0] + b"/" + name
    return _new(Header, (name, number(block[124:136]), block[156]))


def _sum(part: bytes) -> int:
    """The sum of bytes below 65521: Adler-32 begins as 1 + that sum, 10 times faster than sum()."""
    return (zlib.adler32(part) & 0xFFFF) - 1


def _high_bytes(block: bytes, own: bytes) -> int:
    """How many bytes old writers summed as negative numbers."""
    return len(block.translate(None, _ASCII)) - len(own.translate(None, _ASCII))


@lru_cache(maxsize=1 << 12)
def stated(own: bytes) -> int:
    """What all bytes of a header should sum to, by its checksum field, which itself counts as 8 spaces (256)."""
    stated = number(own)
    return -1 if stated is None else stated - 256 + sum(own)


@lru_cache(maxsize=1 << 12)
def number(field: bytes) -> int | None:
    """A numeric field: octal digits, or GNU's base-256 two's complement; None where it is neither."""
    if field[0] & 0x80:
        bits = 8 * len(field) - 1
        value = int.from_bytes(field, "big") - (1 << bits)
        return value - (1 << bits) if value >> (bits - 1) else value
    digits = field.split(b"\0", 1)[0].strip(b" ")
    try:
        return int(digits, 8) if digits.isdigit() else None if digits else 0
    except ValueError:  # an 8 or a 9
        return None


def names_its_member(block: bytes) -> bool:
    """Whether a header can be believed without the one before it; a checksum does not tell that.

    A name that fills its field without a prefix may have lost its long-name record. One that begins with NUL may be
    a header that lost zero bytes of its own and has as many of the padding before it instead.
    """
    return block[0] != 0 and (block[99] == 0 or (block[345] != 0 and block[257:263] == b"ustar\0"))


def pax_fields(payload: bytes) -> PaxFields | None:
    """The records of an extended header that concern reading, or None where they are malformed."""
    name, size, sparse, at = None, None, False, 0
    while at < len(payload):
        length = _LENGTH.match(payload, at)
        end = at + int(length[1]) if length else 0
        if length is None or not length.end() < end <= len(payload) or payload[end - 1] != 0x0A:
            return None
        keyword, equals, value = payload[length.end() : end - 1].partition(b"=")
        if not equals:
            return None
        if keyword == b"path":
            name = value
        elif keyword == b"size":
            if not value.lstrip(b"-").isdigit() or len(value) > 30:
                return None
            size = int(value)
        sparse = sparse or keyword.startswith(b"GNU.sparse.")
        at = end
    return PaxFields(name, size, sparse)


def is_ordinary(raw: bytes) -> bool:
    """Whether a name is clean beyond doubt, as most are: 4 times faster than looking for what is not clean."""
    return not raw.translate(None, _ORDINARY) and b".." not in raw and raw[:1] not in _NO_NAME and len(raw) < 256


def clean_name(raw: bytes) -> str | None:
    """The name as text, or None where no sample may have it."""
    try:
        name = raw.decode()
    except UnicodeDecodeError:
        return None
    if is_ordinary(raw):
        return name
    too_long = len(raw) > MAX_KEY_BYTES and (len(raw) > MAX_NAME_BYTES or _key_bytes(name) > MAX_KEY_BYTES)
    return None if too_long or _UNCLEAN.search(name) else name


def _key_bytes(name: str) -> int:
    return len(split_name(name)[0].encode())


def split_name(name: str) -> tuple[str, str]:
    """webdataset's key and extension: `a/b.seg.PNG` is (`a/b`, `seg.png`); without both, (name, "")."""
    key, _, ext = name.partition(".")
    if "/" in ext:
        last = name.rfind("/") + 1
        base, _, ext = name[last:].partition(".")
        key = name[:last] + base
    return (key, ext.lower()) if ext and key[-1:] not in _NO_START else (name, "")


def shown_name(raw: bytes) -> str:
    """Any name as text that can be shown: what is not clean is escaped, what is long is cut."""
    escaped = _UNSHOWN.sub(_escape, raw[: 4 * SHOWN_CHARACTERS].decode("utf-8", "surrogateescape"))
    whole = len(escaped) <= SHOWN_CHARACTERS and len(raw) <= 4 * SHOWN_CHARACTERS
    return escaped if whole else f"{escaped[:SHOWN_CHARACTERS]}... ({len(raw)} bytes)"


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code - 0xDC00:02x}" if code >= 0xDC80 else found[0].encode("unicode_escape").decode()
