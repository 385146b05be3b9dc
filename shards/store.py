"""Folders of objects, on disk or in an object store: list, read, and create what is not there; never overwrite."""

from __future__ import annotations

import functools
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, Any, TypeVar
from urllib.parse import quote, unquote, urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, PreconditionError
from obstore.store import LocalStore, from_url

from captioner.errors import CorruptState, OutOfService, Refused
from shards import patience
from shards.blob import Listed
from shards.durable import drop, keep, new_file, writing
from shards.patience import answering, ask
from shards.stored import StoredBlob, as_source_error

SCHEMES = ("file", "s3", "gs", "az")
ONE_PUT_BYTES = 64 * 2**20  # larger files go up in parts, which no client of ours can make conditional
REQUEST_SECONDS = 60.0
_UNQUOTED = re.compile(r"[A-Za-z0-9_.~/-]+")  # what `quote` leaves as it is

T = TypeVar("T")


def absolute(where: str) -> str:
    """A path or URL as an absolute URL without a trailing slash. Raises Refused for what is neither."""
    scheme, separator, rest = where.partition("://")
    scheme = scheme.lower()
    right = f"a path, or a URL of {', '.join(each + '://' for each in SCHEMES)}"
    if not where.strip():
        raise Refused(f"cannot open {where!r}: {right} would be right")  # and not the folder we happen to be in
    if not separator:
        if where.partition(":")[0] in SCHEMES:
            raise Refused(f"cannot open {where!r}: {right}; a folder of that name is ./{where}")
        return "file://" + quote(os.path.abspath(os.path.expanduser(where)))
    if scheme not in SCHEMES or not rest:
        raise Refused(f"cannot open {where!r}: {right}")
    if scheme == "file":
        host, _, path = rest.partition("/")
        if host not in ("", "localhost"):
            raise Refused(f"cannot open {where!r}: a file:// URL has three slashes before a whole path")
        return "file://" + quote(os.path.abspath(unquote(f"/{path}")))
    return f"{scheme}://{rest.rstrip('/')}"


def local_path(url: str) -> Path | None:
    """The path behind a file:// URL, None for any other."""
    return Path(unquote(urlsplit(url).path)) if url.startswith("file://") else None


def connect(folder_url: str, headers: dict[str, str] | None = None, retries: int = 0) -> Any:
    """A folder's obstore. Its own retries cannot be counted, so only what must go in parts gets some."""
    options: dict[str, Any] = {
        "retry_config": {"max_retries": retries, "retry_timeout": timedelta(seconds=patience.SECONDS)},
        "client_options": {
            "allow_http": True,
            "timeout": timedelta(seconds=REQUEST_SECONDS),
            "default_headers": headers or {},
        },
    }
    if folder_url.startswith("s3://") and not headers:
        options["config"] = {"aws_checksum_algorithm": "sha256"}  # the store refuses bytes that changed on their way
    return from_url(folder_url, **options)


@functools.lru_cache(maxsize=64)
def _opened(folder_url: str, retries: int = 0) -> Any:
    """A folder's obstore, kept: a client for each shard would open its connections anew. Raises FileNotFoundError."""
    path = local_path(folder_url)
    if path is None:
        return connect(folder_url, retries=retries)
    if not path.is_dir():
        raise FileNotFoundError(folder_url)
    return LocalStore(path)


def open_blob(url: str, etag: str) -> StoredBlob:
    """One object as it is now, by its URL; etag is what the plan saw, for the caller to compare. Raises SourceError."""
    folder, _, name = url.rpartition("/")
    path = unquote(name) if url.startswith("file://") else name
    with as_source_error(path):
        store = _opened(folder)
        meta = ask(folder, lambda: obstore.head(store, path))
    return StoredBlob(store=store, url=folder, path=path, size=meta["size"], etag=_quoted(meta["e_tag"]) or etag)


def _quoted(etag: str | None) -> str:
    """An ETag as HTTP writes it: some stores leave the quotes out of their listings."""
    return f'"{etag}"' if etag and not etag.endswith('"') else etag or ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """An object of a folder: its path there, its bytes, and when the store says it came to be."""

    name: str
    bytes: int
    modified: datetime


class Store:
    """One folder, by URL. Every write creates; what is there stays as it is."""

    def __init__(self, url: str) -> None:
        self.url = absolute(url)
        self.path = local_path(self.url)
        self._objects: Any = None

    @property
    def objects(self) -> Any:
        """The obstore behind it, opened when first needed. Raises FileNotFoundError for a local folder not there."""
        if self._objects is None:
            self._objects = _opened(self.url)
        return self._objects

    def exists(self) -> bool:
        """Whether the folder is there at all; an object store has no folders, so there it always is."""
        return self.path is None or self.path.is_dir()

    def _metas(self, prefix: str) -> list[Any]:
        if not self.exists():
            return []
        folder = prefix.rpartition("/")[0] or None
        batches = self._ask(lambda: list(obstore.list(self.objects, folder, chunk_size=10_000)))
        return [meta for batch in batches for meta in batch if meta["path"].startswith(prefix)]

    def listing(self, prefix: str = "") -> list[Listed]:
        """Every object whose path begins with prefix, by full URL. A prefix may end inside a name."""
        metas = self._metas(prefix)
        return [Listed(url=self.url_of(m["path"]), size=m["size"], etag=_quoted(m["e_tag"])) for m in metas]

    def found(self, name: str) -> list[Listed]:
        """The object of this very name, as a listing has it; none where there is none."""
        try:
            meta = self._ask(lambda: obstore.head(self.objects, name))
        except patience.MISSING:
            return []
        return [Listed(url=self.url_of(name), size=meta["size"], etag=_quoted(meta["e_tag"]))]

    def stored(self, prefix: str = "") -> list[Stored]:
        """Every object whose path begins with prefix, with its time; sorted by name."""
        found = [Stored(name=m["path"], bytes=m["size"], modified=m["last_modified"]) for m in self._metas(prefix)]
        return sorted(found, key=lambda each: each.name)

    def names(self, prefix: str = "") -> list[str]:
        """The paths, relative to this folder, of every object under prefix; sorted."""
        return sorted(meta["path"] for meta in self._metas(prefix))

    def url_of(self, name: str) -> str:
        """The full URL of an object of this folder."""
        plain = self.path is None or _UNQUOTED.fullmatch(name)  # a third of the time that a listing takes
        return f"{self.url}/{name if plain else quote(name)}"

    def read(self, name: str) -> bytes:
        """One object whole. Raises FileNotFoundError, or OutOfService when the store does not answer."""
        try:
            return self._ask(lambda: bytes(obstore.get(self.objects, name).bytes()))
        except patience.MISSING:
            raise FileNotFoundError(f"{self.url}/{name}") from None

    def read_sound(self, name: str, decode: Callable[[bytes], T]) -> T:
        """One object, decoded. Bytes that decode takes for damage are read once more: the way here may have hurt them.

        Raises FileNotFoundError, OutOfService, and CorruptState as decode does.
        """
        try:
            return decode(self.read(name))
        except CorruptState:
            return decode(self.read(name))

    def size(self, name: str) -> int:
        """Bytes of one object. Raises FileNotFoundError."""
        try:
            return int(self._ask(lambda: obstore.head(self.objects, name))["size"])
        except patience.MISSING:
            raise FileNotFoundError(f"{self.url}/{name}") from None

    def blob(self, name: str) -> StoredBlob:
        """One object to stream, whatever its ETag."""
        return StoredBlob(store=self.objects, url=self.url, path=name, size=self.size(name), etag="")

    def create(self, name: str, data: bytes) -> bool:
        """Make an object whole and durable; False when one of this name is there already.

        False can also mean that an earlier try of ours got through and its answer was lost: read it to know.
        """
        if self.path is not None:
            with new_file(self.path / name) as new:
                new.file.write(data)
                return new.publish()
        return self._put(name, lambda: obstore.put(self.objects, name, data, mode="create"))

    @contextmanager
    def building(self, name: str) -> Iterator[Building]:
        """A file to fill and then publish under name; nothing is seen, and nothing stays, if it never is."""
        if self.path is not None:
            with new_file(self.path / name) as new:
                yield Building(file=new.file, publish=new.publish)
            return
        with writing(f"scratch for {name}"), tempfile.NamedTemporaryFile(prefix="recap-") as spool:

            def publish() -> bool:
                spool.flush()
                return self._upload(name, Path(spool.name))

            yield Building(file=spool, publish=publish)

    def _upload(self, name: str, file: Path) -> bool:
        """Put a file under a name that holds 128 random bits: if it is taken, an answer to ourselves was lost."""
        size = file.stat().st_size
        if size <= ONE_PUT_BYTES:
            self._put(name, lambda: obstore.put(self.objects, name, file, mode="create", use_multipart=False))
        else:
            parts = _opened(self.url, retries=8)
            self._put(name, lambda: obstore.put(parts, name, file, chunk_size=ONE_PUT_BYTES // 4, max_concurrency=4))
        if self.size(name) != size:
            raise OutOfService(f"{self.url} kept {self.size(name)} bytes of {name}, where {size} were sent")
        return True

    def _put(self, name: str, put: Callable[[], Any]) -> bool:
        """Whether a put made the object: repeated until the store says yes or no, as an answer lost is neither."""

        def once() -> bool:
            try:
                put()
            except (AlreadyExistsError, PreconditionError) as error:
                if patience.conflicts(error):
                    raise
                return False
            return True

        try:
            return self._ask(once)
        except patience.MISSING as error:
            raise Refused(f"{self.url} cannot be written: there is no such bucket") from error

    def _ask(self, call: Callable[[], T]) -> T:
        with answering(self.url):
            return ask(self.url, call)

    def delete(self, names: list[str]) -> None:
        """Remove objects that no record names; one that is gone already is fine."""
        if self.path is not None:
            with writing(self.url):
                drop(self.path, names)
        elif names:
            self._ask(lambda: obstore.delete(self.objects, names))

    def keep(self, folders: tuple[str, ...]) -> None:
        """Make these folders and all names in them outlive a power cut: who made them may be dead before it did."""
        if self.path is not None:
            with writing(self.url):
                keep(self.path, folders)


@dataclass(frozen=True, slots=True, kw_only=True)
class Building:
    """A file being filled. publish() makes it durable under its name; False when that name is taken."""

    file: IO[bytes]
    publish: Callable[[], bool]
