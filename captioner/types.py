"""The nouns of Recap and the seams between its parts; verbs live elsewhere."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, Any, Literal, Protocol, runtime_checkable

Kind = Literal["image", "video"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Spooled:
    """A member too large to hold, in a nameless file that is gone with its last user. sha256: hex digest of it all."""

    file: IO[bytes]
    size: int
    sha256: str

    def chunks(self, count: int = 1 << 20) -> Iterator[bytes]:
        """Its bytes in order, in pieces; whoever else reads it has a place of their own."""
        at = 0
        while piece := os.pread(self.file.fileno(), count, at):
            yield piece
            at += len(piece)

    def whole(self) -> bytes:
        """All of it, held after all."""
        return b"".join(self.chunks())


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One image or video with its sidecars, as its source shard holds it.

    key: unique within its shard; never used as a path. media: the stored bytes, untouched; of a clip too large to hold
    its beginning alone, and large is the file that it lies in.
    meta: the source's fields under our names (`caption`, `url`, `sha256`, scores such as `similarity`) and,
    under `sidecar`, its JSON as it came. member_offset: byte offset of the media's tar header, None outside a tar.
    flags: what the reader had to overlook, such as `bad_sidecar`.
    """

    key: str
    kind: Kind
    media: bytes
    meta: Mapping[str, Any]
    source_shard: str
    member_offset: int | None = None
    flags: frozenset[str] = frozenset()
    large: Spooled | None = None
    _sha256: str = field(default="", init=False, repr=False, compare=False)

    @property
    def size(self) -> int:
        """Bytes of the whole media."""
        return len(self.media) if self.large is None else self.large.size

    @property
    def sha256(self) -> str:
        """Hex digest of the media, taken once: the line, the request and the ledger all want it."""
        if self.large is not None:
            return self.large.sha256
        if not self._sha256:
            object.__setattr__(self, "_sha256", hashlib.sha256(self.media).hexdigest())
        return self._sha256


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """An input sample that no reader can make whole: it still gets its row, outcome `unreadable`."""

    key: str
    source_shard: str
    reason: str
    detail: str = ""
    member_offset: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a picture's first bytes say, before any decoding.

    width, height: px as a viewer sees them (EXIF orientations 5 to 8 swap the stored sides).
    orientation: EXIF 1 to 8. format: lower-case container name decided by magic bytes, never by file name.
    """

    format: str
    width: int
    height: int
    orientation: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelBudget:
    """How large a picture may be when an engine sees it: at most max_pixels, sides multiples of multiple_of.

    min_pixels: a smaller picture is enlarged, 0 for never. max_aspect: longer over shorter side, 0 for any; a server
    that refuses longer pictures gets them with the long side cut to it, distorted.
    """

    max_pixels: int
    multiple_of: int = 1
    min_pixels: int = 0
    max_aspect: int = 0

    def __post_init__(self) -> None:
        if self.multiple_of < 1 or self.min_pixels < 0 or self.max_aspect < 0:
            raise ValueError(f"{self}: sides are multiples of 1 or more, and no limit is negative")
        if self.max_pixels < max(self.min_pixels, self.multiple_of**2):
            raise ValueError(f"{self}: max_pixels holds neither min_pixels nor one multiple squared")


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameBudget:
    """How a video is looked at: so many frames a second of the clip, max_frames at most, each within pixels.

    multiple_of: the number of frames is one of its multiples, 2 for models that take frames in pairs.
    reader: who decodes, one of captioner.media.clip_format.READERS.
    """

    pixels: PixelBudget
    max_frames: int
    per_second: int = 1
    multiple_of: int = 1
    reader: str = "pyav"

    def __post_init__(self) -> None:
        if min(self.per_second, self.multiple_of, self.max_frames) < 1:
            raise ValueError(f"{self}: 1 or more of each would be right")
        if self.max_frames % self.multiple_of:
            raise ValueError(f"{self}: max_frames would be right as a multiple of multiple_of")


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """Pixels that we bounded: an upright, opaque sRGB JPEG of width x height px, re-encoded by us."""

    jpeg: bytes
    width: int
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """A decoder's answer: the bounded picture, the upright size of the original in px, and what was odd about it.

    frames: of a video, in the order they are shown, and times, when, in seconds from its first frame; picture is then
    the middle one. duration: of a video, in seconds, by its frames. signals: numbers for the ledger.
    """

    picture: Picture
    width: int
    height: int
    flags: frozenset[str] = frozenset()
    frames: tuple[Picture, ...] = ()
    times: tuple[float, ...] = ()
    duration: float | None = None
    signals: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How an engine draws tokens. temperature is always sent: a checkpoint's own default would change it.

    top_k: tokens drawn from, 0 for all of them, and then it is not sent.
    """

    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    top_k: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionRequest:
    """One question to an engine: bounded, re-encoded pixels and a prompt; never a user's own bytes.

    media_sha256: hex digest of the stored media, so that wording and fakes can be deterministic.
    attempt: 0 for the first ask, 1 and up when a filter asked again. times: of a video's frames, which the images then
    are, in seconds; empty for pictures.
    """

    images: tuple[Picture, ...]
    prompt: str
    sampling: Sampling
    media_sha256: str
    attempt: int = 0
    times: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Caption:
    """An engine's answer. finish_reason: `stop`, `length` or what the engine said; facts: JSON of what experts saw.

    seconds: in the engine, its own account or, where it gives none, what its slot measured.
    engine: who answered, where one run has several kinds of engine. flags: what was odd about the answer, such as
    `seed_ignored` or `trimmed`. replica: the name of the one that answered, where a pool has several. tokens_saved: of
    those asked for, how many were never made, because the answer was stopped when it looped (finish_reason `loop`).
    revision: of the model, as whoever answered told it.
    """

    text: str
    finish_reason: str
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    seconds: float | None = None
    facts: Mapping[str, Any] | None = None
    engine: str | None = None
    flags: frozenset[str] = frozenset()
    replica: str | None = None
    tokens_saved: int = 0
    revision: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """The engine answered and a filter dropped it; the text is kept so that thresholds can change later."""

    reason: str
    caption: Caption


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """The engine gave no usable answer for this sample."""

    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filtered:
    """A screen dropped the sample before the engine saw it."""

    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """The media cannot be decoded, or not within the limits."""

    reason: str
    detail: str = ""


Outcome = Caption | Rejection | Failure | Filtered | Unreadable


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """An outcome and how it came about. width, height: upright px of the original, None where never known.

    duration, frame_times: of a video, in seconds; its frames' are those of the frames that the engine saw.
    attempts: asks sent to the engine. signals: what each filter measured, `flag.*` = 1 for what was odd, and of
    asks before the last `again.<reason>`, how many, and `again.<n>.<reason>` = 1 for the n-th from 1.
    """

    outcome: Outcome
    width: int | None = None
    height: int | None = None
    duration: float | None = None
    frame_times: tuple[float, ...] | None = None
    attempts: int = 0
    engine_seconds: float = 0.0
    signals: Mapping[str, float] = field(default_factory=dict)


class Engine(Protocol):
    """Turns a request into a caption. Entering does the work of starting; raises EngineError."""

    async def __aenter__(self) -> Engine: ...
    async def caption(self, request: CaptionRequest) -> Caption: ...
    async def __aexit__(self, *exc: object) -> None: ...


class Replica(Protocol):
    """One copy of a model that answers requests: usually one server at one URL. A pool keeps several saturated."""

    @property
    def name(self) -> str:
        """How displays and ledgers call it, such as `http://10.0.0.5:30000`."""

    async def ask(self, request: CaptionRequest) -> Caption:
        """One answer, awaited without a deadline of its own; cancelling it cancels the work. Raises EngineError."""

    async def prove(self) -> None:
        """Show that it serves the right model now, by identity and one tiny request.

        Raises EngineUnavailable while it does not answer yet, ModelChanged when it serves another model.
        """

    async def close(self) -> None:
        """Let go of connections."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Information:
    """What is known of a sample besides its pixels, as plain text and boxes; none of it is trusted.

    boxes: (label, (left, top, right, bottom) as fractions of the picture). lines: text read in the picture.
    """

    alt_text: str = ""
    boxes: tuple[tuple[str, tuple[float, float, float, float]], ...] = ()
    lines: tuple[str, ...] = ()


class External(Protocol):
    """Gathers what an engine is told besides the picture. Entering does the work of starting."""

    async def __aenter__(self) -> External: ...
    async def gather(self, sample: Sample, decoded: Decoded) -> Information: ...
    async def __aexit__(self, *exc: object) -> None: ...


class Decoder(Protocol):
    """Turns stored media into a bounded picture, or a clip into bounded frames, in a limited process.

    Raises MediaError.
    """

    async def decode(self, media: bytes, budget: PixelBudget) -> Decoded: ...
    async def watch(self, media: bytes | IO[bytes], budget: FrameBudget) -> Decoded: ...


class Screen(Protocol):
    """Judges a sample by its header, before decoding: a reason to drop it, or None."""

    def __call__(self, sample: Sample, header: Header) -> str | None: ...


class Filter(Protocol):
    """Judges a caption after the engine: a reason to drop it, or None to keep it."""

    def __call__(self, sample: Sample, caption: Caption) -> str | None: ...


@runtime_checkable
class Measures(Protocol):
    """A filter that also says what it measured; the numbers go to the ledger whether it drops or not."""

    def signals(self, sample: Sample, caption: Caption) -> Mapping[str, float]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardInput:
    """One input shard as the plan pins it. take: read only so many samples (a trial), None for all of them.

    members: (url, size, etag) of each object, where a shard is many small ones and not one tar.
    """

    shard: str
    url: str
    size: int
    etag: str
    take: int | None = None
    members: tuple[tuple[str, int, str], ...] = ()
