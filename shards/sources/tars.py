"""Tars found under an input become planned shards, each with a name that no other has, and are read as planned."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from urllib.parse import unquote

from captioner.errors import Refused
from captioner.types import Kind, ShardInput
from shards.blob import Listed, OpenBlob, open_planned
from shards.samples import PICTURES, MetaOf, TarReading

MAX_NAME = 120  # characters: attempt ids and endings are added, and file systems stop at 255 bytes
_FOLDERS = 3  # so many names from the end of a path may be used to tell two shards apart
_STRANGE = re.compile(r"[^A-Za-z0-9._-]")


def plan_tars(listing: Sequence[Listed]) -> list[ShardInput]:
    """Every *.tar of the listing, sorted by URL. Raises Refused when there is none."""
    tars = sorted(
        {found.url: found for found in listing if found.url.endswith(".tar")}.values(), key=lambda tar: tar.url
    )
    if not tars:
        seen = f"{len(listing)} objects, such as {listing[0].url}" if listing else "nothing at all"
        plain = "for plain pictures there is pipelines/recap_folder.py, for plain clips pipelines/recap_clips.py"
        raise Refused(f"no *.tar under the input, but {seen}; {plain}")
    names = shard_names([tar.url for tar in tars])
    return [
        ShardInput(shard=name, url=tar.url, size=tar.size, etag=tar.etag) for name, tar in zip(names, tars, strict=True)
    ]


def read_tar(
    shard: ShardInput,
    open_blob: OpenBlob,
    meta_of: MetaOf,
    max_member_bytes: int,
    media: Mapping[str, Kind] = PICTURES,
) -> TarReading:
    """One tar's samples, see TarReading. Raises SourceError for another object than the planned one."""
    return TarReading(
        open_planned(shard, open_blob),
        shard=shard.shard,
        meta_of=meta_of,
        take=shard.take,
        max_member_bytes=max_member_bytes,
        media=media,
    )


def shard_names(urls: Sequence[str]) -> list[str]:
    """One name a URL: its tar's name without `.tar`; the folders before it, then a hash, where two would share it."""
    paths = [(unquote(url) if url.startswith("file://") else url).removesuffix(".tar").split("/") for url in urls]
    names = [_clean("-".join(path[-1:])) for path in paths]
    for depth in range(2, _FOLDERS + 1):
        shared = _shared(names)
        names = [_clean("-".join(p[-depth:])) if n.lower() in shared else n for n, p in zip(names, paths, strict=True)]
    shared = _shared(names)
    return [f"{n}-{_digest(url)}" if n.lower() in shared else n for n, url in zip(names, urls, strict=True)]


def _shared(names: list[str]) -> set[str]:
    """Names that several have, in lower case: some file systems do not tell the cases apart."""
    return {name for name, count in Counter(map(str.lower, names)).items() if count > 1}


def _clean(name: str) -> str:
    """A name fit for any store. What was changed carries a hash of what it was, so that two never become one."""
    clean = _STRANGE.sub("_", name)[:MAX_NAME].lstrip(".-")
    return clean if clean == name and name else f"{clean or 'shard'}-{_digest(name)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
