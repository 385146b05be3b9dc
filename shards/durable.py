"""Local files that appear whole and survive a power cut, or do not appear at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from captioner.errors import OutOfService, Refused

FOLDER_TRIES = 5  # another attempt may clear away an empty folder just as we want to write into it
NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EMLINK)

_safe: set[Path] = set()  # folders whose own names this process has made durable


class NewFile:
    """A local file without a name yet: fill `file`, then publish() links it into place, durably."""

    def __init__(self, final: Path) -> None:
        self.final = final
        self._staged: Path | None = None
        self.file: IO[bytes] = os.fdopen(self._open(), "w+b")

    def _open(self) -> int:
        for tries_left in reversed(range(FOLDER_TRIES)):
            make_folder(self.final.parent)
            try:
                return self._nameless()
            except FileNotFoundError:
                if not tries_left:
                    raise
        raise AssertionError("the last try returns or raises")

    def _nameless(self) -> int:
        try:
            return os.open(self.final.parent, os.O_TMPFILE | os.O_RDWR, 0o644)
        except FileNotFoundError:
            raise
        except OSError:  # not every file system has nameless files
            self._staged = self.final.parent / f".{self.final.name}.{secrets.token_hex(8)}.tmp"
            return os.open(self._staged, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644)

    def publish(self) -> bool:
        """fsync, hard link to the final name, fsync the folder. False when the name is taken.

        After an fsync that failed the kernel may have dropped the bytes and called them clean, so that a second fsync
        would lie: the file counts as lost, and so does its name when it is the folder that did not reach the disk.
        """
        self.file.flush()
        os.fsync(self.file.fileno())
        try:
            self._link()
        except FileExistsError:
            sync_folder(self.final.parent)  # another's name: its maker may have died before it did so
            return False
        try:
            sync_folder(self.final.parent)
        except OSError:
            with contextlib.suppress(OSError):
                self.final.unlink()
            raise
        return True

    def _link(self) -> None:
        try:
            if self._staged is not None:
                os.link(self._staged, self.final)
                return
            # A folder's descriptor makes Python call linkat, which alone follows this link to the nameless file.
            folder = os.open("/proc/self/fd", os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.link(str(self.file.fileno()), self.final, src_dir_fd=folder, follow_symlinks=True)
            finally:
                os.close(folder)
        except OSError as error:
            if error.errno in NO_LINKS:
                raise Refused(f"{self.final.parent} has no hard links: use a disk that has") from error
            raise

    def close(self) -> None:
        """Forget the file; one that was published stays under its name."""
        try:
            self.file.close()
        finally:
            if self._staged:
                self._staged.unlink(missing_ok=True)


@contextmanager
def new_file(final: Path) -> Iterator[NewFile]:
    """A NewFile, closed on the way out. Raises OutOfService when the disk is full, read-only or failing."""
    with writing(str(final)):
        new = NewFile(final)
        try:
            yield new
        finally:
            new.close()


@contextmanager
def writing(what: str) -> Iterator[None]:
    """Raises OutOfService for whatever a disk says against writing."""
    try:
        yield
    except OSError as error:
        raise OutOfService(f"cannot write {what}: {os.strerror(error.errno or 0)}") from error


def scratch(what: str) -> IO[bytes]:
    """A nameless file, gone with its last user. Raises OutOfService where there is no room for one."""
    with writing(what):
        return tempfile.TemporaryFile()


def make_folder(folder: Path) -> None:
    """Create a folder and its parents, each made durable in the one above.

    One that somebody else made is synced too, once: its maker may have died before it came to that.
    """
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    unsafe = missing if folder in _safe else [folder, *(each for each in missing if each != folder)]
    for made in reversed(unsafe):
        sync_folder(made.parent)
    _safe.add(folder)


def sync_folder(folder: Path) -> None:
    """fsync a folder, so that the names in it outlive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def keep(root: Path, folders: tuple[str, ...]) -> None:
    """Sync these folders of root, root, and the name of root, whoever made them."""
    for folder in (*(root / name for name in folders), root):
        make_folder(folder)
        sync_folder(folder)
    with contextlib.suppress(PermissionError):  # where we may not look, we have not created this folder either
        sync_folder(root.parent)


def drop(root: Path, names: list[str]) -> None:
    """Unlink files under root, and the folders that are empty then; what is gone already is fine."""
    for name in names:
        (root / name).unlink(missing_ok=True)
    for folder in {(root / name).parent for name in names} - {root}:
        with contextlib.suppress(OSError):  # not empty, or somebody else was first
            folder.rmdir()
