"""Tar members become samples: webdataset's grouping, with a row for every member that belongs to no sample's row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from captioner.types import Broken, Kind, Sample
from shards.blob import Blob
from shards.keys import SeenKeys
from shards.sidecars import MAX_SIDECAR_BYTES, BadSidecar, json_of, text_of
from shards.tar import MAX_MEMBER_BYTES, Account, Damage, Member, TarReader

# What a name promises; what a picture or a clip is, its first bytes say later.
PICTURES: dict[str, Kind] = dict.fromkeys(
    (
        *("jpg", "jpeg", "jpe", "jfif", "mpo", "png", "apng", "webp", "gif", "bmp", "dib", "tif", "tiff", "ppm", "pgm"),
        *("heic", "heif", "avif", "jxl", "jp2", "j2k", "ico", "icns", "psd", "tga", "fits", "eps", "wmf", "svg", "pdf"),
    ),
    "image",
)
CLIPS: dict[str, Kind] = dict.fromkeys(
    ("mp4", "m4v", "mov", "webm", "mkv", "avi", "ts", "m2ts", "mpg", "mpeg", "3gp", "flv", "wmv", "ogv", "m3u8", "mpd"),
    "video",
)
USED = frozenset({"txt", "json"})
CARRIED = frozenset(  # sidecars that datasets are known to have and nothing here opens
    {"url.txt", "syn.json", "paug.json", "meta.json", "npz", "npy", "cls", "id", "index", "url", "sha256", "md5", "xml"}
)

MetaOf = Callable[[str | None, Mapping[str, Any] | None], dict[str, Any]]  # caption file's text, JSON sidecar -> meta

_NO_FLAGS: frozenset[str] = frozenset()
_BAD_SIDECAR = frozenset({"bad_sidecar"})


@dataclass(slots=True)
class _Group:
    """The adjacent members of one key. split: the key came before, elsewhere in the shard.

    media: the first picture or clip; of a split group its first member. sidecars: the used ones' bytes, None for a
    damaged one. lost: the first damaged member. alien: the first that nothing here opens.
    """

    key: str
    offset: int
    split: bool
    media: Member | None = None
    sidecars: dict[str, bytes | None] = field(default_factory=dict)
    offsets: dict[str, int] = field(default_factory=dict)
    lost: Damage | None = None
    alien: Member | None = None


def meta_and_flags(sidecars: Mapping[str, bytes | None], meta_of: MetaOf) -> tuple[dict[str, Any], frozenset[str]]:
    """A sample's meta from its `txt` and `json`, and `bad_sidecar` where one is damaged (None) or not clean."""
    raw_text, raw_fields = sidecars.get("txt"), sidecars.get("json")
    text, fields = None, None
    flags = _BAD_SIDECAR if None in sidecars.values() else _NO_FLAGS
    try:
        if raw_text is not None:
            text = text_of(raw_text)
    except BadSidecar:
        flags = _BAD_SIDECAR
    try:
        if raw_fields is not None:
            fields = json_of(raw_fields)
    except BadSidecar:
        flags = _BAD_SIDECAR
    return meta_of(text, fields), flags


class TarReading:
    """One pass over a tar of samples: iterate it once, then read `account` and `flags`.

    Every member belongs to a row: a sample, whose sidecars are carried by it, or a Broken of its own. A row has its
    sample's key; one more row beside it has `<member name>@<offset>`, so that no two rows of a shard share a key.
    media: the extensions that are samples, PICTURES or CLIPS.
    """

    def __init__(
        self,
        blob: Blob,
        *,
        shard: str,
        meta_of: MetaOf,
        take: int | None = None,
        max_member_bytes: int = MAX_MEMBER_BYTES,
        media: Mapping[str, Kind] = PICTURES,
    ) -> None:
        sidecars = dict.fromkeys(USED, min(MAX_SIDECAR_BYTES, max_member_bytes))
        held = dict.fromkeys(media, max_member_bytes) | sidecars
        self._media = media
        self._tar = TarReader(blob, max_member_bytes=max_member_bytes, held=held)
        self._shard = shard
        self._meta_of = meta_of
        self._take = take
        self._seen = SeenKeys()
        self._begun = False

    @property
    def account(self) -> Account:
        """What became of the shard's bytes, up to where the iteration went."""
        return self._tar.account

    @property
    def flags(self) -> tuple[str, ...]:
        """The shard-level reasons, see SHARD_REASONS."""
        return self._tar.account.flags

    def __iter__(self) -> Iterator[Sample | Broken]:
        if self._begun:
            raise RuntimeError("a reading goes over its shard once; read the shard again")
        self._begun = True
        if self._take is None:
            yield from self._rows()
            return
        rows = self._rows()
        for _ in range(self._take):
            row = next(rows, None)
            if row is None:
                return
            yield row

    def _rows(self) -> Iterator[Sample | Broken]:
        group: _Group | None = None
        for item in self._tar:
            if not item.ext:  # no part of any sample
                yield self._own_row(item)
                continue
            if group is None or group.key != item.key:
                if group is not None:
                    yield from self._close(group)
                group = _Group(item.key, item.offset, not self._seen.add(item.key))
            spare = self._into(group, item)
            if spare is not None:
                yield spare
        if group is not None:
            yield from self._close(group)

    def _into(self, group: _Group, item: Member | Damage) -> Broken | None:
        """Put a member to its group, or give the row that it gets because it has no place there."""
        if isinstance(item, Damage):
            return self._damaged(group, item)
        ext = item.ext
        if group.split:
            group.media = group.media or item
        elif ext in group.offsets or (group.media is not None and ext in self._media):
            first = group.offsets[ext] if ext in group.offsets or group.media is None else group.media.offset
            detail = f"the first is at byte {first}, this one at byte {item.offset}"
            return self._own_row(item, "duplicate_member", detail)
        elif ext in USED:
            group.sidecars[ext] = item.data
        elif ext in self._media:
            group.media = item
        elif ext not in CARRIED:
            if group.alien is not None:
                return self._own_row(item)
            group.alien = item
            return None
        group.offsets[ext] = item.offset
        return None

    def _damaged(self, group: _Group, damage: Damage) -> Broken | None:
        """A damaged member has its own row, but for a sidecar over its limit: the sample's flag says it."""
        if damage.ext in USED:
            group.sidecars.setdefault(damage.ext, None)
            if damage.reason == "member_too_large" and not group.split:
                return None
        if group.split or group.lost is not None:
            return self._own_row(damage)
        group.lost = damage
        return None

    def _close(self, group: _Group) -> list[Sample | Broken]:
        """The group's rows: the first has its key, the others their member's name and offset."""
        media = group.media
        if media is not None and group.lost is None and group.alien is None and not group.split:
            return [self._sample(group, media)]
        spare = [item for item in (group.lost, group.alien) if item is not None]
        if group.split:
            return [] if media is None else [self._own_row(media, "split_sample", f"more of {group.key!r} came before")]
        first: Sample | Broken
        if media is not None:
            first = self._sample(group, media)
        elif spare and (group.lost is not None or not (group.offsets or group.sidecars)):
            first = self._own_row(spare.pop(0), key=group.key)
        else:
            first = self._broken(group.key, "no_media", "sidecars without a picture", group.offset)
        return [first, *map(self._own_row, spare)] if spare else [first]

    def _sample(self, group: _Group, media: Member) -> Sample:
        meta, flags = meta_and_flags(group.sidecars, self._meta_of)
        kind, data, large = self._media[media.ext], media.data or b"", media.spooled
        if large is not None and kind == "image":  # clips alone are decoded out of a file
            data, large = large.whole(), None
        return Sample(
            key=group.key,
            kind=kind,
            media=data,
            large=large,
            meta=meta,
            source_shard=self._shard,
            member_offset=media.offset,
            flags=flags,
        )

    def _own_row(self, item: Member | Damage, reason: str = "", detail: str = "", *, key: str | None = None) -> Broken:
        """The row of a member that is in no sample's: for a damage its reason, else `unsupported_extension`."""
        if isinstance(item, Damage):
            reason, detail = item.reason, item.detail
        if key is None:
            key = f"{item.name}@{item.offset}"
            while not item.ext and not self._seen.add(key):  # only such keys can be a sample's, too
                key += "@"
        shown = f"{item.name}: {detail}" if item.name and detail else item.name or detail
        return self._broken(key, reason or "unsupported_extension", shown, item.offset)

    def _broken(self, key: str, reason: str, detail: str, offset: int) -> Broken:
        return Broken(key=key, source_shard=self._shard, reason=reason, detail=detail, member_offset=offset)
