"""img2dataset's fields under our names: what Datacomp, LAION and their kin write beside each picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit, urlunsplit

Fields = tuple[tuple[str, str], ...]  # (their name, our name); of several for one of ours the first usable counts

TEXT: Fields = (
    *(("caption", "caption"), ("TEXT", "caption"), ("text", "caption"), ("alt", "caption")),
    *(("url", "url"), ("URL", "url")),
    *(("sha256", "sha256"), ("SHA256", "sha256")),
    *(("uid", "uid"), ("UID", "uid")),
    ("key", "key"),
)
NUMBERS: Fields = (
    *(("width", "width"), ("WIDTH", "width")),
    *(("height", "height"), ("HEIGHT", "height")),
    *(("original_width", "original_width"), ("original_height", "original_height")),
    *(("similarity", "similarity"), ("SIMILARITY", "similarity")),
    *(("punsafe", "punsafe"), ("PUNSAFE", "punsafe")),
    *(("pwatermark", "pwatermark"), ("PWATERMARK", "pwatermark")),
)
_SIGNING = frozenset({"x-amz-signature", "x-goog-signature", "signature", "sig"})
_SIGNED_WITH = frozenset({"awsaccesskeyid", "googleaccessid", "expires", "key-pair-id", "policy", "security-token"})
_AZURE = frozenset(
    {"se", "sp", "sv", "sr", "st", "spr", "sip", "ss", "srt", "skt", "ske", "sks", "skv", "skoid", "sktid"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapped:
    """How one dataset's JSON becomes meta: called with a sample's caption file and JSON sidecar, either None."""

    text: Fields
    numbers: Fields
    _urls: tuple[str, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_urls", tuple(theirs for theirs, ours in self.text if ours == "url"))

    def __call__(self, caption: str | None, sidecar: Mapping[str, Any] | None) -> dict[str, Any]:
        meta: dict[str, Any] = {}
        if sidecar is not None:
            for theirs, ours in self.text:
                if theirs in sidecar and ours not in meta and isinstance(sidecar[theirs], str) and sidecar[theirs]:
                    meta[ours] = sidecar[theirs]
            for theirs, ours in self.numbers:
                if theirs in sidecar and ours not in meta and type(sidecar[theirs]) in (int, float):
                    meta[ours] = sidecar[theirs]
            meta["sidecar"] = _without_signatures(sidecar, self._urls)
        if caption:
            meta["caption"] = caption
        if "url" in meta:
            meta["url"] = public_url(meta["url"])
        return meta


def _without_signatures(sidecar: Mapping[str, Any], names: tuple[str, ...]) -> Mapping[str, Any]:
    urls = {name: sidecar[name] for name in names if isinstance(sidecar.get(name), str)}
    public = {name: public_url(url) for name, url in urls.items()}
    return sidecar if public == urls else {**sidecar, **public}


def public_url(url: str) -> str:
    """The URL without what lets its bearer in: a user's name and password, a presigned query's parameters."""
    if "?" not in url and "@" not in url:
        return url
    try:
        parts = urlsplit(url)
    except ValueError:  # no URL, such as "http://[": nothing of it can be told apart
        return url.partition("?")[0]
    query = parts.query.split("&") if parts.query else []
    names = [parameter.partition("=")[0].lower() for parameter in query]
    if _SIGNING.intersection(names):
        query = [parameter for parameter, name in zip(query, names, strict=True) if not _signs(name)]
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=host, query="&".join(query)))


def _signs(name: str) -> bool:
    return name in _SIGNING | _SIGNED_WITH | _AZURE or name.startswith(("x-amz-", "x-goog-"))
