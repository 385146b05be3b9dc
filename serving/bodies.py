"""Bodies: what a request holds, as a picture's or clip's bytes and wishes, checked field by field."""

from __future__ import annotations

import re
import tempfile
import unicodedata
from binascii import Error as BadBase64
from binascii import a2b_base64
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from email.message import Message
from types import MappingProxyType
from typing import IO, Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser
from starlette.requests import Request

from captioner.filters.markup import TOKENS
from captioner.prompts import MAX_CHARACTERS
from captioner.types import Kind
from serving.problems import Problem

IN_MEMORY = 2**20  # bytes of a body held in memory while it arrives; the rest waits in a nameless file
MOST_PARTS = 8
MOST_PART_HEADER = 4096  # bytes of one part's header
MOST_FIELD = 16_384  # bytes of a part that is neither picture nor clip
MOST_TOKENS = 2048
MOST_URL = 2048  # characters
DATA_URL = re.compile(r"data:(?:image|video)/[a-z0-9.+-]{1,40};base64,", re.IGNORECASE)
# The fields that a picture or clip may come in, and what each says of its kind: `image` leaves it to the first bytes.
MEDIA_FIELDS: Mapping[str, Kind | None] = MappingProxyType({"image": None, "video": "video"})
TEXT_FIELDS = ("prompt", "max_tokens")
UNSENT = frozenset({"Cc", "Cs", "Co", "Cn"})  # Unicode's controls, lone surrogates, private and unassigned characters
# Quotes, commas and brackets of a JSON body. Base64 has none and a prompt at most its 4,000 characters;
# a list of a million numbers cost 5.7 s and 1.2 GB, for each of them is an error with words of its own.
MOST_MARKS = 10_000

Body = TypeVar("Body", bound=BaseModel)


class Stored(BaseModel):
    """Where the picture or clip is: exactly one of the two."""

    model_config = ConfigDict(extra="forbid", strict=True)
    base64: str | None = Field(
        default=None,
        description="The stored file, base64 without white space; `data:image/…;base64,` or `data:video/…;base64,` may "
        "stand before it.",
    )
    url: str | None = Field(
        default=None, max_length=MOST_URL, description="An https URL, where this service was started with --allow-urls."
    )


class CaptionBody(BaseModel):
    """One picture or clip to caption: exactly one of `image` and `video`."""

    model_config = ConfigDict(extra="forbid", strict=True)
    image: Stored | None = Field(default=None, description="A picture; or a clip, where its first bytes say so.")
    video: Stored | None = Field(default=None, description="A clip.")
    prompt: Annotated[str, Field(min_length=1, max_length=MAX_CHARACTERS)] | None = Field(
        default=None, description="Other words than the preset's, where the engine takes any."
    )
    max_tokens: Annotated[int, Field(ge=1, le=MOST_TOKENS)] | None = Field(
        default=None, description="Of a first answer at most; a second ask after a cut answer gets more in proportion."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a request asks for: stored bytes or a URL, other words than the preset's, another number of tokens.

    kind: what the request says they are, None where their first bytes decide.
    """

    media: bytes | None = None
    url: str | None = None
    kind: Kind | None = None
    prompt: str | None = None
    max_tokens: int | None = None


async def received(request: Request) -> bytes:
    """The whole body. Its length and time are bounded by the guard in front; at most 1 MiB is in memory meanwhile."""
    with tempfile.SpooledTemporaryFile(max_size=IN_MEMORY) as spool:
        async for chunk in request.stream():
            spool.write(chunk)
        return _read(spool)


def _read(spool: IO[bytes]) -> bytes:
    spool.seek(0)
    return spool.read()


def wish_of(content_type: str, body: bytes) -> Wish:
    """Raises Problem: unsupported_media_type, bad_multipart, bad_request_body naming the field."""
    kind = Message()
    kind["content-type"] = content_type[:300]
    if kind.get_content_type() == "application/json":
        return _from_json(body)
    if kind.get_content_type() == "multipart/form-data":
        return _from_multipart(body, str(kind.get_param("boundary", "")))
    raise Problem("unsupported_media_type")


def from_json(kind: type[Body], body: bytes) -> Body:
    """The body as one of our models. Raises Problem bad_request_body naming the field, in time bounded by its marks."""
    if sum(map(body.count, (b'"', b",", b"[", b"{"))) > MOST_MARKS:
        raise Problem("bad_request_body", f"the body: over {MOST_MARKS} quotes, commas and brackets")
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the body"
        raise Problem("bad_request_body", f"{plain(where)}: {plain(first['msg'])}") from None


def _from_json(body: bytes) -> Wish:
    asked = from_json(CaptionBody, body)
    given = {name: each for name, each in (("image", asked.image), ("video", asked.video)) if each is not None}
    name = _only(given)
    stored = given[name]
    if (stored.base64 is None) == (stored.url is None):
        raise Problem("bad_request_body", f"{name}: exactly one of base64 and url would be right")
    return Wish(
        media=None if stored.base64 is None else from_base64(stored.base64, f"{name}.base64"),
        url=stored.url,
        kind=MEDIA_FIELDS[name],
        prompt=checked_prompt(asked.prompt),
        max_tokens=asked.max_tokens,
    )


def _only(given: Collection[str]) -> str:
    """The one field of those given that a picture or clip came in. Raises Problem bad_request_body."""
    found = [name for name in MEDIA_FIELDS if name in given]
    if len(found) != 1:
        raise Problem("bad_request_body", f"image, video: exactly one of them would be right, not {len(found)}")
    return found[0]


def plain(text: str) -> str:
    """The text without what a client may have hidden in it: a field's name may be anything that the client wrote."""
    return re.sub(r"[^\w .,:'()=<>-]", "?", text, flags=re.ASCII)[:160]


def from_base64(text: str, field: str) -> bytes:
    """Strict base64, a data URL of a picture or clip allowed. Raises Problem bad_request_body."""
    if text[:5].lower() == "data:":
        head = DATA_URL.match(text)
        if head is None:
            raise Problem(
                "bad_request_body", f"{field}: a data URL must begin with data:image/…;base64, or data:video/…;base64,"
            )
        text = text[head.end() :]
    try:
        media = a2b_base64(text.encode("ascii"), strict_mode=True)
    except (BadBase64, UnicodeEncodeError):
        raise Problem("bad_request_body", f"{field}: not base64 without white space, with its padding") from None
    if not media:
        raise Problem("bad_request_body", f"{field}: empty")
    return media


def checked_prompt(text: str | None) -> str | None:
    """The prompt without space around it, its lines as we end them. Raises Problem bad_request_body for what no engine
    is sent."""
    if text is None:
        return None
    words = _lines(text).strip()
    # Joiners and marks of direction belong to the words of many languages, and to emoji; they must not hide a token.
    seen = "".join(each for each in words if unicodedata.category(each) != "Cf")
    tokens = any(TOKENS.search(each) for each in (words, seen, unicodedata.normalize("NFKC", seen)))
    if not seen or tokens or any(unicodedata.category(each) in UNSENT and each not in "\n\t" for each in words):
        raise Problem("bad_request_body", "prompt: words without special tokens and control characters would be right")
    return words


def _lines(text: str) -> str:
    """Every browser ends the lines of a form's text by CRLF."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _from_multipart(body: bytes, boundary: str) -> Wish:
    if not 1 <= len(boundary) <= 70 or not boundary.isascii():
        raise Problem("bad_multipart", "a boundary of 1 to 70 characters would be right")
    parts = _Parts(body, boundary.encode()).fields
    name = _only(parts)
    if not parts[name]:
        raise Problem("bad_request_body", f"{name}: empty")
    tokens = _text(parts, "max_tokens")
    if tokens is not None and not re.fullmatch(r"[1-9]\d{0,3}", tokens):
        raise Problem("bad_request_body", f"max_tokens: a number of 1 to {MOST_TOKENS} would be right")
    if tokens is not None and int(tokens) > MOST_TOKENS:
        raise Problem("bad_request_body", f"max_tokens: a number of 1 to {MOST_TOKENS} would be right")
    prompt = _text(parts, "prompt")
    if prompt is not None and not 1 <= len(prompt) <= MAX_CHARACTERS:
        raise Problem("bad_request_body", f"prompt: 1 to {MAX_CHARACTERS} characters would be right")
    return Wish(
        media=parts[name],
        kind=MEDIA_FIELDS[name],
        prompt=checked_prompt(prompt),
        max_tokens=int(tokens) if tokens else None,
    )


def _text(parts: dict[str, bytes], name: str) -> str | None:
    try:
        return _lines(parts[name].decode()) if name in parts else None
    except UnicodeDecodeError:
        raise Problem("bad_request_body", f"{name}: not UTF-8") from None


class _Parts:
    """The parts of a multipart body by name; file names are not even read. Raises Problem."""

    def __init__(self, body: bytes, boundary: bytes) -> None:
        self.fields: dict[str, bytes] = {}
        self._header, self._name, self._disposition = bytearray(), bytearray(), bytearray()
        self._part = bytearray()
        self._parts, self._ended = 0, False
        if not body.startswith(b"--" + boundary):
            raise Problem("bad_multipart", "the body does not begin with its boundary")
        if body.count(b"\r\n--" + boundary) > MOST_PARTS:  # a whole one inside a part costs the parser 2 us each
            raise Problem("bad_multipart", f"at most {MOST_PARTS} parts would be right")
        callbacks: Any = {
            "on_part_begin": self._begin,
            "on_header_field": self._name_more,
            "on_header_value": self._value_more,
            "on_header_end": self._header_end,
            "on_part_data": self._data,
            "on_part_end": self._end,
            "on_end": self._all,
        }
        try:
            MultipartParser(boundary, callbacks).write(body)
        except FormParserError:
            raise Problem("bad_multipart", "it does not parse") from None
        if not self._ended:
            raise Problem("bad_multipart", "it ends before its last boundary")

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise Problem("bad_multipart", f"at most {MOST_PARTS} parts would be right")
        self._header.clear()
        self._disposition.clear()
        self._part = bytearray()

    def _name_more(self, data: bytes, start: int, end: int) -> None:
        self._grow(self._name, data, start, end)

    def _value_more(self, data: bytes, start: int, end: int) -> None:
        self._grow(self._header, data, start, end)

    def _grow(self, what: bytearray, data: bytes, start: int, end: int) -> None:
        if len(self._header) + len(self._name) + end - start > MOST_PART_HEADER:
            raise Problem("bad_multipart", f"a part's header has over {MOST_PART_HEADER} bytes")
        what += data[start:end]

    def _header_end(self) -> None:
        if bytes(self._name).lower() == b"content-disposition":
            self._disposition = bytearray(self._header)
        self._name.clear()
        self._header.clear()

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._part += data[start:end]

    def _end(self) -> None:
        found = re.search(rb'(?:^|[;\s])name=("?)([a-z_]{1,32})\1(?:[;\s]|$)', self._disposition)  # .NET quotes no word
        name = found[2].decode() if found else ""
        if name not in (*MEDIA_FIELDS, *TEXT_FIELDS):
            raise Problem("bad_request_body", f"parts are named {', '.join((*MEDIA_FIELDS, *TEXT_FIELDS))}")
        if name in self.fields:
            raise Problem("bad_request_body", f"{name}: there twice")
        if name in TEXT_FIELDS and len(self._part) > MOST_FIELD:
            raise Problem("bad_request_body", f"{name}: over {MOST_FIELD} bytes")
        self.fields[name] = bytes(self._part)

    def _all(self) -> None:
        self._ended = True
