"""Packing: samples into tars the way img2dataset lays them out, for demos, tests and small data sets."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from shards.store import Store
from shards.tar_writer import add_sample, open_tar


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """One sample to pack: its media under an extension, its caption, and the fields of its JSON."""

    key: str
    extension: str
    media: bytes
    caption: str | None = None
    fields: Mapping[str, Any] | None = None


def tar_of(samples: Iterable[Packed]) -> bytes:
    """A shard's bytes: `.jpg`, `.json` and `.txt` a sample, equal for equal samples."""
    sink = io.BytesIO()
    tar = open_tar(sink)
    for sample in samples:
        parts = {sample.extension: sample.media}
        if sample.caption is not None:
            parts["txt"] = sample.caption.encode()
        if sample.fields is not None:
            parts["json"] = json.dumps(sample.fields).encode()
        add_sample(tar, sample.key, parts)
    tar.close()
    return sink.getvalue()


def pack(store: Store, samples: list[Packed], shard_samples: int) -> list[str]:
    """Write samples as shards `00000.tar`, `00001.tar` …; their names."""
    names = []
    for number, at in enumerate(range(0, len(samples), shard_samples)):
        names.append(f"{number:05d}.tar")
        store.create(names[-1], tar_of(samples[at : at + shard_samples]))
    return names
