"""Asking a store again: what may pass, how long to wait for it, and a count of how often that was needed."""

from __future__ import annotations

import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from obstore.exceptions import (
    BaseError,
    InvalidPathError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)

from captioner.errors import OutOfService, Refused

SECONDS = 120.0  # how long an answer that never came is asked for again before the store counts as gone
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 10.0  # seconds; each pause is drawn from 0 to a bound that doubles
PASSING = {408, 425, 429, 500, 502, 503, 504}
# What S3 answers with a 4xx although the same request may well succeed: bytes were garbled or cut on their way.
PASSING_CODES = ("BadDigest", "XAmzContentSHA256Mismatch", "IncompleteBody", "RequestTimeout<")
CONFLICT_CODES = ("ConditionalRequestConflict", "OperationAborted")  # two writers at once: neither has won yet
MISSING = (NotFoundError, FileNotFoundError)
FORBIDDEN = (PermissionDeniedError, UnauthenticatedError, PermissionError)
_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w+)</Code>")

T = TypeVar("T")


class Tally:
    """How often a store was asked again, by cause; safe to note from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def note(self, cause: str) -> None:
        """One more."""
        with self._lock:
            self._counts[cause] += 1

    def take(self) -> dict[str, int]:
        """What was noted since the last take."""
        with self._lock:
            counts, self._counts = self._counts, Counter()
        return dict(counts)


retries = Tally()  # of this process: a worker hands its counts to the run with every shard


def status_of(error: BaseError) -> int | None:
    """The HTTP status that an obstore error tells of, None when no answer came at all."""
    found = _STATUS.search(str(error))
    return int(found[1]) if found else None


def conflicts(error: BaseError) -> bool:
    """Whether the store put two writers off instead of choosing one."""
    return any(code in str(error) for code in CONFLICT_CODES)


def passes(error: BaseError) -> bool:
    """Whether the same request may succeed later: no answer came, or one that speaks of the store and not of us."""
    if isinstance(error, PermissionDeniedError | UnauthenticatedError | PreconditionError):
        return any(code in str(error) for code in PASSING_CODES)
    if isinstance(error, InvalidPathError) or "NotPartial" in str(error):  # no names, no ranges: and never will
        return False
    status = status_of(error)
    garbled = any(code in str(error) for code in PASSING_CODES)
    return status is None or status in PASSING or garbled or conflicts(error)


def cause_of(error: BaseError) -> str:
    """A word for what went wrong: a status, an S3 code, or that no whole answer came."""
    code, status = _CODE.search(str(error)), status_of(error)
    return code[1] if code else str(status or "no answer")


def pauses() -> Iterator[None]:
    """Wait, longer each time, with full jitter: clients that failed together shall not come back together."""
    longest = FIRST_PAUSE
    while True:
        time.sleep(random.uniform(0, longest))
        longest = min(2 * longest, LONGEST_PAUSE)
        yield


def ask(url: str, call: Callable[[], T]) -> T:
    """The answer to one call, repeated while failures may pass and patience lasts.

    Only for calls that may be made twice. Raises what does not pass as it came; OutOfService when patience ends. A
    disk is asked once: what it says it will say again.
    """
    end, waiting = time.monotonic() + SECONDS, pauses()
    while True:
        try:
            return call()
        except BaseError as error:
            if url.startswith("file://") or not passes(error):
                raise
            if time.monotonic() > end:
                raise OutOfService(f"the store at {url} does not answer ({cause_of(error)})") from error
            retries.note(cause_of(error))
        next(waiting)


@contextmanager
def answering(url: str) -> Iterator[None]:
    """What a store's last word means for a run: OutOfService, or Refused when it does not let us in."""
    try:
        yield
    except MISSING:
        raise
    except FORBIDDEN as error:
        raise Refused(f"{url}: the credentials do not allow it ({type(error).__name__})") from error
    except InvalidPathError as error:
        raise Refused(f"{url} holds a name that must change, or be left out by a list file: {_said(error)}") from error
    except BaseError as error:
        cause = _said(error) if url.startswith("file://") else cause_of(error)
        raise OutOfService(f"the store at {url} refused a request ({cause})") from error
    except OSError as error:
        raise OutOfService(f"the disk at {url} failed ({type(error).__name__})") from error


def _said(error: BaseError) -> str:
    """The error in its own words, without the dump behind them."""
    return " ".join(str(error).partition("Debug source")[0].split())
