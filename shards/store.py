"""Folders of objects, on disk or in an object store: list, read, and create what is not there; never overwrite."""

from __future__ import annotations

import fnmatch
import functools
import os
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import IO, Any, TypeVar
from urllib.parse import quote, unquote, urlsplit

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import LocalStore, from_url

from captioner.errors import OutOfService, Refused, SourceError
from shards.blob import Listed

SCHEMES = ("file", "s3", "gs", "az")
LIST_FILES = (".txt", ".list", ".lst")
CHUNK = 4 * 2**20
PATIENCE_SECONDS = 120.0  # how long an answer that never came is asked for again before the store counts as gone

T = TypeVar("T")


def absolute(where: str) -> str:
    """A path or URL as an absolute URL without a trailing slash. Raises Refused for a scheme that we do not speak."""
    scheme = urlsplit(where).scheme
    if "://" not in where:
        return "file://" + quote(os.path.abspath(os.path.expanduser(where)))
    if scheme not in SCHEMES:
        raise Refused(f"cannot open {where!r}: a path, or a URL of {', '.join(s + '://' for s in SCHEMES)}")
    if scheme == "file":
        return "file://" + quote(os.path.abspath(unquote(urlsplit(where).path)))
    return where.rstrip("/")


def local_path(url: str) -> Path | None:
    """The path behind a file:// URL, None for any other."""
    return Path(unquote(urlsplit(url).path)) if url.startswith("file://") else None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBlob:
    """One object, pinned to the ETag that the plan saw; satisfies blob.Blob. Raises SourceError while reading."""

    store: Any
    path: str
    size: int
    etag: str

    def chunks(self, offset: int = 0) -> Iterator[bytes]:
        """The object's bytes from offset on, in pieces of about 4 MiB."""
        if offset >= self.size:
            return
        options: dict[str, Any] = {"if_match": self.etag} if self.etag else {}
        if offset:
            options["range"] = {"offset": offset}
        given = 0
        with _as_source_error(self.path):
            for piece in obstore.get(self.store, self.path, options=options).stream(min_chunk_size=CHUNK):
                given += len(piece)
                yield piece
        if given != self.size - offset:
            raise SourceError("source_corrupt", f"{given} bytes came where {self.size - offset} were promised")


@contextmanager
def _as_source_error(path: str) -> Iterator[None]:
    try:
        yield
    except (NotFoundError, FileNotFoundError) as error:
        raise SourceError("source_missing", f"{path} is not there") from error
    except PreconditionError as error:
        raise SourceError("source_changed", f"{path} is not the object that was planned") from error
    except (PermissionDeniedError, UnauthenticatedError, PermissionError) as error:
        raise SourceError("source_forbidden", f"the store does not let us read {path}") from error
    except BaseError as error:
        raise OutOfService(f"the input store failed on {path} ({type(error).__name__})") from error


@functools.lru_cache(maxsize=64)
def _opened(folder_url: str) -> Any:
    """A folder's obstore, kept: a client for each shard would open its connections anew."""
    path = local_path(folder_url)
    if path is not None:
        return LocalStore(path) if path.is_dir() else LocalStore()
    return from_url(
        folder_url,
        retry_config={"max_retries": 8, "retry_timeout": timedelta(seconds=60)},
        client_options={"allow_http": True, "timeout": timedelta(seconds=120)},
    )


def open_blob(url: str, etag: str) -> StoredBlob:
    """One object as it is now, by its URL; etag is what the plan saw, for the caller to compare. Raises SourceError."""
    folder, _, name = url.rpartition("/")
    path = unquote(name) if url.startswith("file://") else name
    store = _opened(folder)
    with _as_source_error(path):
        meta = obstore.head(store, path)
    return StoredBlob(store=store, path=path, size=meta["size"], etag=meta["e_tag"] or etag)


def find(where: str) -> list[Listed]:
    """Every object under a folder, glob, list file, URL prefix or name, sorted by URL. Raises Refused for none."""
    if where.endswith(LIST_FILES):
        listed = [found for line in _lines(where) for found in find(line)]
    else:
        listed = _find_one(where)
    if not listed:
        raise Refused(f"nothing found at {where!r}: a folder of tars, a glob, a list file or a URL prefix")
    return sorted({found.url: found for found in listed}.values(), key=lambda found: found.url)


def _lines(where: str) -> list[str]:
    url = absolute(where)
    folder, _, name = url.rpartition("/")
    text = Store(folder).read(unquote(name)).decode()
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def _find_one(where: str) -> list[Listed]:
    url = absolute(where)
    plain = unquote(url) if url.startswith("file://") else url
    wild = min((plain.find(mark) for mark in "*?[" if mark in plain), default=-1)
    folder = plain[:wild].rpartition("/")[0] if wild >= 0 else plain
    path = local_path("file://" + quote(folder[7:])) if folder.startswith("file://") else None
    name = ""
    if path is not None and not path.is_dir():
        folder, _, name = folder.rpartition("/")
        if not Path(folder[7:]).is_dir():
            return []
    found = Store("file://" + quote(folder[7:]) if path is not None else folder).listing(name)
    matching = [one for one in found if wild < 0 or fnmatch.fnmatch(unquote(one.url), plain)]
    if not matching and path is None and wild < 0:  # an object's own URL, or a prefix inside a name
        folder, _, name = plain.rpartition("/")
        matching = Store(folder).listing(name)
    return matching


class Store:
    """One folder, by URL. Every write creates; what is there stays as it is."""

    def __init__(self, url: str) -> None:
        self.url = absolute(url)
        self.path = local_path(self.url)
        self._objects: Any = None

    @property
    def objects(self) -> Any:
        """The obstore behind it, opened when first needed; a local folder that is not there counts as empty."""
        if self._objects is None:
            self._objects = _opened(self.url)
        return self._objects

    def exists(self) -> bool:
        """Whether the folder is there at all; an object store has no folders, so there it always is."""
        return self.path is None or self.path.is_dir()

    def listing(self, prefix: str = "") -> list[Listed]:
        """Every object whose path begins with prefix, by full URL. A prefix may end inside a name."""
        if not self.exists():
            return []
        folder = prefix.rpartition("/")[0]
        with _as_out_of_service(self.url):
            batches = list(obstore.list(self.objects, folder or None, chunk_size=10_000))
        metas = [meta for batch in batches for meta in batch if meta["path"].startswith(prefix)]
        return [Listed(url=self.url_of(m["path"]), size=m["size"], etag=m["e_tag"] or "") for m in metas]

    def names(self, prefix: str = "") -> list[str]:
        """The paths, relative to this folder, of every object under prefix; sorted."""
        cut = len(self.url) + 1
        urls = [found.url[cut:] for found in self.listing(prefix)]
        return sorted(unquote(url) if self.path is not None else url for url in urls)

    def url_of(self, name: str) -> str:
        """The full URL of an object of this folder."""
        return f"{self.url}/{quote(name) if self.path is not None else name}"

    def read(self, name: str) -> bytes:
        """One object whole. Raises FileNotFoundError, or OutOfService when the store does not answer."""
        if not self.exists():
            raise FileNotFoundError(f"{self.url}/{name}")
        with _as_out_of_service(self.url):
            try:
                return bytes(obstore.get(self.objects, name).bytes())
            except (NotFoundError, FileNotFoundError):
                raise FileNotFoundError(f"{self.url}/{name}") from None

    def size(self, name: str) -> int:
        """Bytes of one object. Raises FileNotFoundError."""
        with _as_out_of_service(self.url):
            try:
                return int(obstore.head(self.objects, name)["size"])
            except (NotFoundError, FileNotFoundError):
                raise FileNotFoundError(f"{self.url}/{name}") from None

    def blob(self, name: str) -> StoredBlob:
        """One object to stream, whatever its ETag."""
        return StoredBlob(store=self.objects, path=name, size=self.size(name), etag="")

    def create(self, name: str, data: bytes) -> bool:
        """Make an object whole and durable; False when one of this name is there already.

        False can also mean that an earlier try of ours got through and its answer was lost: read it to know.
        """
        if self.path is not None:
            with new_file(self.path / name) as new:
                new.file.write(data)
                return new.publish()
        return _until_answered(self.url, lambda: _put_new(self.objects, name, data))

    @contextmanager
    def building(self, name: str) -> Iterator[Building]:
        """A file to fill and then publish under name; nothing is seen, and nothing stays, if it never is."""
        if self.path is not None:
            with new_file(self.path / name) as new:
                yield Building(file=new.file, publish=new.publish)
            return
        with tempfile.NamedTemporaryFile(prefix="recap-") as spool:

            def publish() -> bool:
                spool.flush()
                # The name holds 128 random bits, so nobody else writes it: large files may go up in parts.
                _until_answered(self.url, lambda: obstore.put(self.objects, name, Path(spool.name)))
                return self.size(name) == os.path.getsize(spool.name)

            yield Building(file=spool, publish=publish)

    def delete(self, names: list[str]) -> None:
        """Remove objects that no record names; one that is gone already is fine."""
        if not names:
            return
        with _as_out_of_service(self.url):
            if self.path is None:
                obstore.delete(self.objects, names)
                return
            for name in names:
                (self.path / name).unlink(missing_ok=True)
        for folder in {(self.path / name).parent for name in names} - {self.path}:
            with suppress(OSError):  # not empty, or gone: another attempt's
                folder.rmdir()

    def keep(self, folders: tuple[str, ...]) -> None:
        """Make these folders and all names in them outlive a power cut: who made them may be dead before it did."""
        if self.path is None:
            return
        with _as_out_of_service(self.url):
            for folder in (*(self.path / name for name in folders), self.path):
                make_folder(folder)
                sync_folder(folder)
            with suppress(PermissionError):  # where we may not look, we have not created this folder either
                sync_folder(self.path.parent)

    def probe(self) -> None:
        """Prove that a second writer of one name is refused. Raises Refused when it is not, OutOfService."""
        name = f"probe-{secrets.token_hex(8)}"
        first, second = self.create(name, b"first"), self.create(name, b"second")
        kept = self.read(name)
        self.delete([name])
        if second or not first or kept != b"first":
            raise Refused(
                f"{self.url} lets a second writer replace an object (no If-None-Match, no hard links): "
                "use a disk with hard links, or an S3 store with conditional puts"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Building:
    """A file being filled. publish() makes it durable under its name; False when that name is taken."""

    file: IO[bytes]
    publish: Callable[[], bool]


@contextmanager
def _as_out_of_service(url: str) -> Iterator[None]:
    try:
        yield
    except NotFoundError:
        raise
    except (BaseError, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise OutOfService(f"the store at {url} does not answer ({type(error).__name__})") from error


def _put_new(objects: Any, name: str, data: bytes) -> bool:
    try:
        obstore.put(objects, name, data, mode="create")
    except (AlreadyExistsError, PreconditionError):
        return False
    return True


def _until_answered(url: str, put: Callable[[], T]) -> T:
    """Repeat one put until the store says yes or no: an answer that was lost is neither."""
    end, pause = time.monotonic() + PATIENCE_SECONDS, 0.2
    while True:
        try:
            return put()
        except (PermissionDeniedError, UnauthenticatedError) as error:
            raise Refused(f"{url} cannot be written: the credentials do not allow it") from error
        except BaseError as error:
            if time.monotonic() > end:
                raise OutOfService(f"the store at {url} does not take writes ({type(error).__name__})") from error
        time.sleep(pause)
        pause = min(pause * 2, 10.0)


class NewFile:
    """A local file without a name yet: fill `file`, then publish() links it into place, durably."""

    def __init__(self, final: Path) -> None:
        self.final = final
        make_folder(final.parent)
        self._staged: Path | None = None
        try:
            descriptor = os.open(final.parent, os.O_TMPFILE | os.O_RDWR, 0o644)
        except OSError:  # not every file system has nameless files
            self._staged = final.parent / f".{final.name}.{secrets.token_hex(8)}.tmp"
            descriptor = os.open(self._staged, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644)
        self.file: IO[bytes] = os.fdopen(descriptor, "w+b")

    def publish(self) -> bool:
        """fsync, hard link to the final name, fsync the folder. False when the name is taken, by then for good."""
        self.file.flush()
        os.fsync(self.file.fileno())
        try:
            self._link()
            linked = True
        except FileExistsError:
            linked = False
        sync_folder(self.final.parent)  # another's name, too: its maker may be dead before it did so
        return linked

    def _link(self) -> None:
        if self._staged is not None:
            os.link(self._staged, self.final)
            return
        # A folder's descriptor makes Python call linkat, which alone follows this link to the nameless file.
        folder = os.open("/proc/self/fd", os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.link(str(self.file.fileno()), self.final, src_dir_fd=folder, follow_symlinks=True)
        finally:
            os.close(folder)

    def close(self) -> None:
        """Forget the file; one that was published stays under its name."""
        self.file.close()
        if self._staged:
            self._staged.unlink(missing_ok=True)


@contextmanager
def new_file(final: Path) -> Iterator[NewFile]:
    """A NewFile, closed on the way out. Raises OutOfService when the disk is full, read-only or failing."""
    try:
        new = NewFile(final)
        try:
            yield new
        finally:
            new.close()
    except OSError as error:
        raise OutOfService(f"cannot write {final}: {os.strerror(error.errno or 0)}") from error


def make_folder(folder: Path) -> None:
    """Create a folder and its parents, each made durable in the one above."""
    missing = [f for f in (folder, *folder.parents) if not f.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for made in reversed(missing):
        sync_folder(made.parent)


def sync_folder(folder: Path) -> None:
    """fsync a folder, so that the names in it outlive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
