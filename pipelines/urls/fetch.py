"""img2dataset as Recap runs it, by the interpreter of its own environment; the standard library, and it.

    python -I fetch.py ORDER.json     # {"img2dataset": its settings, "url_seconds": s, "max_bytes": n}

Left alone, it waits for a server that sends a byte now and then for ever, which holds up the whole shard, takes any
number of bytes into memory, and opens file:// and ftp:// where a list says so.
"""

from __future__ import annotations

import http.client
import io
import json
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

HANDLERS = (
    *(urllib.request.ProxyHandler, urllib.request.HTTPHandler, urllib.request.HTTPSHandler),
    *(urllib.request.HTTPDefaultErrorHandler, urllib.request.HTTPRedirectHandler, urllib.request.HTTPErrorProcessor),
    urllib.request.UnknownHandler,
)


class Bounded(io.RawIOBase):
    """What a socket gives, up to a time and a number of bytes. Raises TimeoutError, OSError beyond."""

    def __init__(self, raw: Any, seconds: float, most: int) -> None:
        self._raw, self._seconds, self._most = raw, seconds, most
        self._end, self._read = time.monotonic() + seconds, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if time.monotonic() > self._end:
            raise TimeoutError(f"timed out: no whole answer within {self._seconds:g} s")
        count: int | None = self._raw.readinto(buffer)
        self._read += count or 0
        if self._read > self._most:
            raise OSError(f"answer of over {self._most} bytes")
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


def bound(seconds: float, most: int) -> None:
    """Every answer that this process reads by urllib is HTTP's and bounded, headers included."""

    class Answer(http.client.HTTPResponse):
        def __init__(self, *words: Any, **named: Any) -> None:
            super().__init__(*words, **named)
            self.fp = io.BufferedReader(Bounded(self.fp.detach(), seconds, most))

    http.client.HTTPConnection.response_class = Answer
    opener = urllib.request.OpenerDirector()
    for handler in HANDLERS:
        opener.add_handler(handler())
    urllib.request.install_opener(opener)


if __name__ in ("__main__", "__mp_main__"):  # its workers are spawned: each runs this file anew, under the second name
    order = json.loads(Path(sys.argv[1]).read_text())
    bound(order["url_seconds"], order["max_bytes"])

if __name__ == "__main__":
    from img2dataset.main import download

    download(**order["img2dataset"])
