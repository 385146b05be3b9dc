"""The closed list of reasons: every row and every shard that is not simply `captioned` names one of these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

OutcomeName = Literal["captioned", "filtered", "unreadable", "rejected", "failed"]
OUTCOMES: tuple[OutcomeName, ...] = ("captioned", "filtered", "unreadable", "rejected", "failed")


@dataclass(frozen=True, slots=True)
class Reason:
    """What a reason says of a sample: the outcome it leads to, its meaning, and what a user can do."""

    outcome: OutcomeName
    meaning: str
    remedy: str


REASONS: dict[str, Reason] = {
    # screens: nothing was decoded
    "below_min_resolution": Reason(
        "filtered", "the upright picture or clip is not larger than the asked size", "lower --resolution.more-than"
    ),
    "extreme_aspect": Reason("filtered", "one side is many times the other", "raise --aspect.at-most"),
    "too_many_bytes": Reason(
        "filtered", "the stored picture or clip is larger than the limit", "raise --bytes.at-most"
    ),
    "too_many_pixels": Reason(
        "filtered",
        "the header claims more pixels than any decoder may be asked for",
        "raise --pixels.at-most and give decoders more memory",
    ),
    "unsupported_format": Reason(
        "filtered",
        "a known format that is not on the allow-list",
        "convert it to JPEG, PNG or WebP, a clip to MP4 or WebM, or see --format.allow",
    ),
    "low_similarity": Reason(
        "filtered", "the source's own image-text similarity is under the asked one", "lower --scores.min-similarity"
    ),
    "unsafe_score": Reason("filtered", "the source's own punsafe is over the asked one", "raise --scores.max-punsafe"),
    "watermark_score": Reason(
        "filtered", "the source's own pwatermark is over the asked one", "raise --scores.max-pwatermark"
    ),
    # pictures that do not decode
    "undecodable": Reason("unreadable", "the bytes are no picture, or a broken one", "fetch the picture again"),
    "truncated_image": Reason("unreadable", "the picture ends before its last pixel", "fetch it again"),
    "unsupported_mode": Reason("unreadable", "no stated rule turns these pixels into 8-bit sRGB", "convert it"),
    "metadata_too_large": Reason("unreadable", "the metadata alone is over its limit", "strip the metadata"),
    "decode_timeout": Reason(
        "unreadable",
        "decoding took longer than its deadline; the child was killed",
        "raise the deadline if the picture matters",
    ),
    "decoder_crash": Reason(
        "unreadable",
        "the decoder process died twice on this picture or clip alone",
        "report it to its codec's authors",
    ),
    "resource_exceeded": Reason(
        "unreadable",
        "decoding needed more memory than a decoder may have, or a clip's frames come to over 64 MiB",
        "raise the decoder's memory, or look at fewer frames",
    ),
    # clips that do not decode
    "bad_container": Reason(
        "unreadable", "the clip's container is cut, or has no index or no frames' bytes", "fetch it again"
    ),
    "no_video_stream": Reason("unreadable", "the file has no video stream, as a sound file has none", "leave it out"),
    "no_frames": Reason("unreadable", "the video stream has no frame", "fetch it again"),
    "unsupported_codec": Reason(
        "unreadable", "a codec that no decoder may be asked for", "convert it to H.264, HEVC, VP9 or AV1"
    ),
    "undecodable_video": Reason(
        "unreadable", "the bytes are no video, or too few of its frames decode", "fetch it again"
    ),
    # tars that cannot be trusted
    "truncated_member": Reason("unreadable", "the tar ends inside this member", "fetch the shard again"),
    "corrupt_header": Reason(
        "unreadable", "a tar header here is damaged; reading went on at the next sound one", "fetch the shard again"
    ),
    "bad_size": Reason(
        "unreadable", "the member's size is negative or larger than what is left", "write the shard again"
    ),
    "member_too_large": Reason("unreadable", "the member is over the limit and was skipped", "raise the limit"),
    "header_too_large": Reason("unreadable", "a long-name or pax header over 64 KiB", "write the shard again"),
    "unsupported_member_type": Reason(
        "unreadable", "a link, device, folder or sparse file; never followed", "write the shard again"
    ),
    "bad_member_name": Reason(
        "unreadable", "a name that leaves the folder, or is not clean UTF-8", "rename the member"
    ),
    "duplicate_member": Reason(
        "unreadable", "the same key and extension came before; the first was kept", "make keys unique"
    ),
    "split_sample": Reason("unreadable", "parts of one key stand apart in the tar", "sort the tar by key"),
    "no_media": Reason("unreadable", "sidecars without a picture or clip", "fetch it"),
    "bad_sidecar": Reason(
        "unreadable",
        "the JSON or text beside the media is unusable; a good picture is captioned without it",
        "write the sidecar again",
    ),
    "unsupported_extension": Reason(
        "unreadable", "a member that is neither what the source is of nor a known sidecar; never opened", "leave it out"
    ),
    # captions that were dropped
    "truncated_caption": Reason("rejected", "the caption stops in the middle", "give more tokens"),
    "repetitive_caption": Reason("rejected", "the caption repeats itself", "sample with a temperature"),
    "too_short": Reason("rejected", "fewer words than this engine's least", "lower --length.min-words"),
    "empty_caption": Reason("rejected", "no text at all", "ask again"),
    "refusal": Reason("rejected", "the engine declined to describe the picture", "try another prompt"),
    "prompt_echo": Reason("rejected", "the caption repeats the prompt", "try another prompt"),
    "markup": Reason("rejected", "special tokens, role names or markup in the text", "check the chat template"),
    "bad_characters": Reason(
        "rejected", "control, bidi or replacement characters in the text", "check the engine's tokenizer"
    ),
    # engines
    "engine_unavailable": Reason(
        "failed",
        "nobody answered",
        "look at the engine's log, then `recap repair OUT --requeue SHARD` and the same command",
    ),
    "engine_timeout": Reason(
        "failed",
        "no whole answer before the deadline",
        "raise --request-seconds, or look at the engine, then `recap repair OUT --requeue SHARD` and the same command",
    ),
    "bad_engine_response": Reason("failed", "an answer that is none", "look at the engine's log"),
    "engine_refused": Reason("failed", "the engine refused this very request", "see the detail"),
    "engine_error": Reason("failed", "the engine failed on this sample", "see the detail"),
    "nan_output": Reason(
        "failed", "the engine's numbers broke: an answer of one sign without end", "restart the engine"
    ),
}


@dataclass(frozen=True, slots=True)
class ShardReason:
    """What a shard-level reason says: `error` makes the run end with exit 1, a plain flag does not."""

    error: bool
    meaning: str


SHARD_REASONS: dict[str, ShardReason] = {
    "empty_shard": ShardReason(True, "the object has no bytes"),
    "not_a_tar": ShardReason(True, "no tar header anywhere in the object"),
    "truncated": ShardReason(True, "the object ends inside a member or a header"),
    "corrupt": ShardReason(True, "some bytes between members belong to no sound member"),
    "source_missing": ShardReason(True, "the object is not there any more"),
    "source_forbidden": ShardReason(True, "the store refuses to show the object"),
    "source_changed": ShardReason(True, "the object is not the one that was planned"),
    "source_corrupt": ShardReason(True, "the store gave other bytes than it promised"),
    "missing_eof": ShardReason(False, "whole, but without the closing zero blocks"),
    "concatenated": ShardReason(False, "several tars, one after another"),
}
