"""img2dataset's fields under our names: what Datacomp, LAION and their kin write beside each picture."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

Fields = Mapping[str, tuple[str, ...]]  # our name -> theirs, the first that is there counts

TEXT: Fields = {
    "caption": ("caption", "TEXT", "text", "alt"),
    "url": ("url", "URL"),
    "sha256": ("sha256", "SHA256"),
    "uid": ("uid", "UID"),
    "key": ("key",),
}
NUMBERS: Fields = {
    "width": ("width", "WIDTH"),
    "height": ("height", "HEIGHT"),
    "original_width": ("original_width",),
    "original_height": ("original_height",),
    "similarity": ("similarity", "SIMILARITY"),
    "punsafe": ("punsafe", "PUNSAFE"),
    "pwatermark": ("pwatermark", "PWATERMARK"),
}
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

    def __call__(self, caption: str | None, sidecar: Mapping[str, Any] | None) -> dict[str, Any]:
        meta: dict[str, Any] = {}
        if sidecar is not None:
            for name, theirs in self.text.items():
                value = _first(sidecar, theirs)
                if isinstance(value, str) and value:
                    meta[name] = value
            for name, theirs in self.numbers.items():
                value = _first(sidecar, theirs)
                if type(value) in (int, float) and math.isfinite(value):
                    meta[name] = value
            meta["sidecar"] = _without_signatures(sidecar, self.text["url"])
        if caption:
            meta["caption"] = caption
        if "url" in meta:
            meta["url"] = public_url(meta["url"])
        return meta


def _first(sidecar: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    for name in names:
        value = sidecar.get(name)
        if value is not None:
            return value
    return None


def _without_signatures(sidecar: Mapping[str, Any], url_names: tuple[str, ...]) -> Mapping[str, Any]:
    signed = {name: sidecar[name] for name in url_names if isinstance(sidecar.get(name), str)}
    public = {name: public_url(url) for name, url in signed.items()}
    return sidecar if public == signed else {**sidecar, **public}


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
