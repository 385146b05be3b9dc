"""API keys: kept as hashes, each with scopes, an end and shares of its own; two of one tenant may live at once."""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import logging
import os
import re
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from captioner.errors import Refused
from captioner.recipe import to_json
from serving.problems import Problem

log = logging.getLogger("recap")

SCOPES = ("caption", "fetch", "run")  # caption pictures; have URLs fetched; look at the run
KEY = re.compile(r"recap_[A-Za-z0-9_-]{43}")  # 256 bits behind the prefix
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
MOST_DAYS = 36_500
LOOK_SECONDS = 2.0  # between two looks at whether the file has changed


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A key as the file keeps it. tenant: whose shares and results it has in common with its other keys.

    sha256: of the whole key, in hex; a key has 256 random bits, so that nothing slower is needed. expires: Unix
    seconds, 0 for never. a_minute: requests; at_once: requests under way; megapixels_a_day: of pictures and of the
    frames that are looked at in clips; 0 for any.
    """

    name: str
    tenant: str
    sha256: str
    scopes: tuple[str, ...] = ("caption",)
    expires: float = 0.0
    a_minute: int = 60
    at_once: int = 8
    megapixels_a_day: int = 0

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name) or not NAME.fullmatch(self.tenant):
            raise ValueError(f"a name of lower-case letters, digits and hyphens would be right, not {self.name!r}")
        if unknown := set(self.scopes) - set(SCOPES):
            raise ValueError(f"{self.name} has no scope {sorted(unknown)[0]!r}; there is {', '.join(SCOPES)}")
        if not re.fullmatch("[0-9a-f]{64}", self.sha256):
            raise ValueError(f"{self.name} has no sha256 in hex")
        if min(self.a_minute, self.at_once, self.megapixels_a_day, self.expires) < 0:
            raise ValueError(f"{self.name} has a share below 0")


# Who asks where no keys are configured, which is on the loopback only: no shares are counted.
LOCAL = Key(name="local", tenant="local", sha256="0" * 64, scopes=SCOPES, a_minute=0, at_once=0)


def hashed(key: str) -> str:
    """What the file keeps of a key."""
    return hashlib.sha256(key.encode()).hexdigest()


def read_keys(path: Path) -> tuple[Key, ...]:
    """The keys of a file. Raises Refused with what is wrong with it."""
    try:
        entries = json.loads(path.read_text())["keys"]
        found = tuple(Key(**{**each, "scopes": tuple(each.get("scopes", ("caption",)))}) for each in entries)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Refused(f"--keys {path} is no file of keys: {error}; `recap serve keys add` writes one") from error
    names = [each.name for each in found]
    if len(set(names)) < len(names):
        raise Refused(f"--keys {path} has two keys of one name")
    return found


def write_keys(path: Path, keys: Sequence[Key]) -> None:
    """Replace the file; a running service takes it up within seconds.

    A new one is readable by its owner alone; one that is there keeps its owner, group and mode, so that a service of
    another user that was let read it still may. Raises Refused where they cannot be given.
    """
    text = json.dumps({"keys": [to_json(each) for each in keys]}, indent=2) + "\n"
    path = path.resolve()  # behind a link, which stays one
    new = path.with_name(f"{path.name}.{secrets.token_hex(4)}.new")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        try:
            if path.exists():
                _like(file.fileno(), path.stat())
        except PermissionError:
            new.unlink()
            raise Refused(f"{path} has an owner or group that is not you: `sudo` would be right") from None
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def _like(descriptor: int, there: os.stat_result) -> None:
    os.fchown(descriptor, there.st_uid, there.st_gid)
    os.fchmod(descriptor, there.st_mode & 0o777)


def add_key(path: Path, key: Key, days: int) -> str:
    """Add a key to the file; the key itself, which is shown this once.

    Raises Refused for a name that is taken, days that are none, and a folder that cannot be written.
    """
    if not 0 <= days <= MOST_DAYS:
        raise Refused(f"--days {days}: 0 for ever, or at most {MOST_DAYS}, would be right")
    secret = f"recap_{secrets.token_urlsafe(32)}"
    expires = (datetime.now(UTC) + timedelta(days=days)).timestamp() if days else 0.0
    try:
        with _alone(path.resolve().parent):
            there = read_keys(path) if path.exists() else ()
            if key.name in {each.name for each in there}:
                taken = f"{path} has a key {key.name!r} already"
                raise Refused(f"{taken}: a new one wants another name, the old one may live on")
            write_keys(path, [*there, replace(key, sha256=hashed(secret), expires=round(expires))])
    except OSError as error:
        raise Refused(f"{path} cannot be written: {error.strerror}") from error
    return secret


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """With nobody else adding a key in this folder meanwhile: of two that read the same file one key would be lost."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


class Keyring:
    """The keys of a file, read anew when it changes. Without a file everybody is LOCAL."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._keys = read_keys(path) if path is not None else ()
        self._stamp, self._looked = self._stat(), time.monotonic()

    @property
    def wanted(self) -> bool:
        """Whether a request needs a key."""
        return self._path is not None

    def who(self, authorization: str | None) -> Key:
        """Whose key it is. Raises Problem unauthorized, in the same time whatever is wrong with it."""
        if self._path is None:
            return LOCAL
        self._look()
        scheme, _, given = (authorization or "").partition(" ")
        offered = hashed(given.strip())
        right = scheme.lower() == "bearer" and KEY.fullmatch(given.strip()) is not None
        found: Key | None = None
        for key in self._keys:  # all of them, always: who comes first would be told by the time it takes
            if hmac.compare_digest(key.sha256, offered):
                found = key
        if not right or found is None or (found.expires and found.expires <= time.time()):
            raise Problem("unauthorized")
        return found

    def _look(self) -> None:
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return
        self._looked, stamp = time.monotonic(), self._stat()
        if stamp == self._stamp or self._path is None:
            return
        self._stamp = stamp
        try:
            self._keys = read_keys(self._path)
            log.info("keys read: count=%d", len(self._keys))
        except Refused as error:  # half a file must not lock everybody out
            log.error("keys not read, the old ones stay: %s", error)

    def _stat(self) -> Any:
        try:
            found = self._path.stat() if self._path is not None else None
        except OSError:
            return None
        return found and (found.st_mtime_ns, found.st_size, found.st_ino)
