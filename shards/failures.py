"""Why a URL of a list brought no picture: img2dataset's words, sorted into a closed list of ours."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One reason. said: what img2dataset's message holds. passes: whether the same URL may well work later."""

    meaning: str
    said: str
    passes: bool = False


# The first that fits counts. Messages are urllib's and ssl's own, as img2dataset 1.47.0 hands them on.
FAILURES: Mapping[str, Failure] = MappingProxyType(
    {
        "opted_out": Failure(meaning="its X-Robots-Tag header says noai, noindex or the like", said="X-Robots-Tag"),
        "changed": Failure(meaning="its sha256 is not the list's (--verify-sha256)", said="hash mismatch"),
        "too_large": Failure(meaning="more bytes than --max-bytes", said="answer of over"),
        "gone": Failure(meaning="HTTP 404 or 410", said=r"HTTP Error (404|410)"),
        "forbidden": Failure(meaning="HTTP 401, 402, 403, 407 or 451", said=r"HTTP Error (401|402|403|407|451)"),
        "busy": Failure(meaning="HTTP 408, 425 or 429: come later", said=r"HTTP Error (408|425|429)", passes=True),
        "server_error": Failure(meaning="HTTP 5xx", said=r"HTTP Error 5\d\d", passes=True),
        "http_error": Failure(meaning="another HTTP status, or redirects without end", said="HTTP Error"),
        "timed_out": Failure(meaning="no whole answer within --timeout", said=r"timed out|Errno 110\]", passes=True),
        "reset": Failure(
            meaning="the connection broke before the whole answer was there",
            said=r"Errno (32|104)\]|Connection reset|closed connection|IncompleteRead|EOF occurred|Broken pipe",
            passes=True,
        ),
        "unreachable": Failure(
            meaning="nobody answers at that address", said=r"Errno (101|111|113)\]|Connection refused", passes=True
        ),
        "no_name_service": Failure(
            meaning="the name could not be looked up just then", said=r"Errno -3\]", passes=True
        ),
        "no_host": Failure(meaning="there is no host of that name", said=r"Errno -(2|5)\]"),
        "tls": Failure(meaning="its certificate or its TLS is not in order", said="SSL|certificate"),
        "bad_url": Failure(
            meaning="no http or https URL",
            said=r"unknown url type|no host given|control characters|nonnumeric port|codec can't encode|Invalid IPv6"
            "|label (empty|too long)|does not appear to be|URL can't|port out of range",
        ),
        OTHER: Failure(meaning="anything else; the shard's Parquet file has img2dataset's own words", said=""),
    }
)
_SAID = tuple((name, re.compile(failure.said)) for name, failure in FAILURES.items())


def reason_of(message: str | None) -> str:
    """The reason, one of FAILURES, that a message of img2dataset's stands for."""
    return next(name for name, said in _SAID if said.search(message or ""))
