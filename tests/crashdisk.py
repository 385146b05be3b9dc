"""A disk that may lose power: the real file operations of a run, recorded, and every tree they may leave behind.

The model is POSIX's promise and no more. A file's bytes are safe once it was fsynced; before that none, half, zeros in
their place or all of them may be there. A name in a folder is safe once the folder was fsynced; before that every
creation and removal may be kept or lost on its own. What a lost folder holds is lost with it.
"""

from __future__ import annotations

import errno
import hashlib
import io
import itertools
import os
import random
import re
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from shards.store import Building, Store

FOLDER = -1  # the "content" of a folder in a tree
Tree = frozenset[tuple[str, int]]  # (path below the root, content id or FOLDER)
Kind = Literal["file", "folder", "make", "drop", "data", "sync", "taken", "seen", "told"]
Weakness = Literal["", "no file fsync", "no folder fsync", "rename over", "record before data", "own names only"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Op:
    """One step of one process: a node (of the folder, for names) and what happens to it."""

    process: str
    kind: Kind
    node: int = 0
    name: str = ""
    target: int = 0  # make: the node named; data, told: the content


@dataclass(slots=True)
class Trace:
    """What was done below a root folder, in order, and the bytes that were written."""

    root: Path
    ops: list[Op] = field(default_factory=list)
    contents: list[bytes] = field(default_factory=lambda: [b""])
    _known: dict[bytes, int] = field(default_factory=lambda: {hashlib.sha256(b"").digest(): 0})
    _nodes: dict[int, int] = field(default_factory=dict)  # inode on the real disk -> node
    _made: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def content(self, data: bytes) -> int:
        """The id of these bytes."""
        found = self._known.setdefault(hashlib.sha256(data).digest(), len(self.contents))
        if found == len(self.contents):
            self.contents.append(data)
        return found

    def halves(self, content: int) -> list[int]:
        """What a power cut leaves of bytes that were being written: their first half, or a hole of their size."""
        data = self.contents[content]
        return [self.content(data[: len(data) // 2]), self.content(bytes(len(data)))]

    def new_node(self, inode: int) -> int:
        """A node for a fresh inode; the disk may have used its number before."""
        self._nodes[inode] = next(self._made)
        return self._nodes[inode]

    def node(self, where: Any) -> int:
        """The node of a path or descriptor; 0 is the root."""
        inode = os.stat(where).st_ino
        return self._nodes.get(inode, 0) if inode != os.stat(self.root).st_ino else 0


class Recorder:
    """Lets every file operation below a root through to the real disk, and writes it down.

    die_at: a pattern; right after an operation whose "kind path" it matches, the disk answers EIO to everything,
    as to a killed process. weakness: what a worse protocol would do instead.
    """

    PATCHED = ("open", "link", "mkdir", "unlink", "rmdir", "fsync")

    def __init__(self, trace: Trace, process: str, *, die_at: str = "", weakness: Weakness = "") -> None:
        self.trace, self.process = trace, process
        self._die_at, self._weakness = die_at, weakness
        self._dead = False
        self._lock = threading.RLock()
        self._real: dict[str, Any] = {}
        self._store: dict[str, Any] = {}
        self._late: list[tuple[str, bytes]] = []
        self._unsynced: set[int] = set()  # folders in which this process has made names since it synced them

    def __enter__(self) -> Recorder:
        self._real = {name: getattr(os, name) for name in self.PATCHED}
        for name in self.PATCHED:
            setattr(os, name, getattr(self, f"_{name}"))
        self._store = {name: getattr(Store, name) for name in ("create", "building")}
        Store.create = self._told(Store.create)  # type: ignore[method-assign]
        if self._weakness == "record before data":
            Store.building = self._postponed  # type: ignore[method-assign]
        return self

    def __exit__(self, *exc: object) -> None:
        for name, real in self._real.items():
            setattr(os, name, real)
        for name, real in self._store.items():
            setattr(Store, name, real)

    def note(self, kind: Kind, path: Any = "", **values: Any) -> None:
        """Write an operation down, and die if this was the one to die at."""
        self.trace.ops.append(Op(process=self.process, kind=kind, **values))
        if self._die_at and re.search(self._die_at, f"{kind} {path}"):
            self._dead = True

    def seen(self, path: str) -> None:
        """From here on this process relies on a name that another one made."""
        folder, _, name = path.rpartition("/")
        self.note("seen", node=self.trace.node(self.trace.root / folder), name=name)

    def _told(self, create: Callable[..., bool]) -> Callable[..., bool]:
        """Store.create, whose answer is a promise: the name and its bytes outlive a power cut."""

        def creating(store: Store, name: str, data: bytes) -> bool:
            answer = create(store, name, data)
            assert store.path is not None
            path = store.path / name
            if not name.startswith(("journal/", "probe-")) and path.exists():
                bytes_there = self.trace.content(path.read_bytes())
                self.note("told", name=str(path.relative_to(self.trace.root)), target=bytes_there)
            while self._late and name.startswith("commits/"):
                create(store, *self._late.pop(0))
            return answer

        return creating

    @contextmanager
    def _postponed(self, name: str) -> Iterator[Building]:
        """Store.building of a protocol that publishes data once their record is there."""
        file = io.BytesIO()

        def publish() -> bool:
            self._late.append((name, file.getvalue()))
            return True

        yield Building(file=file, publish=publish)

    def _ours(self, path: Any) -> bool:
        return isinstance(path, str | os.PathLike) and os.fspath(path).startswith(f"{self.trace.root}{os.sep}")

    def _alive(self) -> None:
        if self._dead:
            raise OSError(errno.EIO, "the disk is gone")

    def _open(self, path: Any, flags: int, mode: int = 0o777, **options: Any) -> int:
        if not self._ours(path) or not flags & os.O_RDWR:
            return self._real["open"](path, flags, mode, **options)  # type: ignore[no-any-return]
        with self._lock:
            self._alive()
            descriptor: int = self._real["open"](path, flags, mode, **options)
            node = self.trace.new_node(os.fstat(descriptor).st_ino)
            self.note("file", node=node)
            if flags & os.O_EXCL:
                self._named(path, node)
            return descriptor

    def _named(self, path: Any, node: int) -> None:
        folder, name = os.path.split(os.fspath(path))
        self._unsynced.add(self.trace.node(folder))
        self.note("make", path, node=self.trace.node(folder), name=name, target=node)

    def _snapshot(self, inode: int, data: bytes) -> None:
        """The bytes a file has now, if they are others than before."""
        node, content = self.trace._nodes[inode], self.trace.content(data)
        last = next((op.target for op in reversed(self.trace.ops) if (op.kind, op.node) == ("data", node)), 0)
        if content != last:
            self.note("data", node=node, target=content)

    def _link(self, source: Any, final: Any, **options: Any) -> None:
        if not self._ours(final):
            return self._real["link"](source, final, **options)  # type: ignore[no-any-return]
        with self._lock:
            self._alive()
            there = f"/proc/self/fd/{source}" if str(source).isdigit() else source
            with open(there, "rb") as file:
                self._snapshot(os.fstat(file.fileno()).st_ino, file.read())
                node = self.trace._nodes[os.fstat(file.fileno()).st_ino]
            if self._weakness == "rename over" and os.path.exists(final):
                self._real["unlink"](final)
            try:
                self._real["link"](source, final, **options)
            except FileExistsError:
                folder, name = os.path.split(os.fspath(final))
                self.note("taken", node=self.trace.node(folder), name=name)
                raise
            self._named(final, node)

    def _mkdir(self, path: Any, *rest: Any, **options: Any) -> None:
        if not self._ours(path):
            return self._real["mkdir"](path, *rest, **options)  # type: ignore[no-any-return]
        with self._lock:
            self._alive()
            self._real["mkdir"](path, *rest, **options)
            node = self.trace.new_node(os.stat(path).st_ino)
            self.note("folder", node=node)
            self._named(path, node)

    def _unlink(self, path: Any, **options: Any) -> None:
        self._dropped("unlink", path, **options)

    def _rmdir(self, path: Any, **options: Any) -> None:
        self._dropped("rmdir", path, **options)

    def _dropped(self, call: str, path: Any, **options: Any) -> None:
        if not self._ours(path):
            return self._real[call](path, **options)  # type: ignore[no-any-return]
        with self._lock:
            self._alive()
            self._real[call](path, **options)
            folder, name = os.path.split(os.fspath(path))
            self.note("drop", path, node=self.trace.node(folder), name=name)

    def _fsync(self, descriptor: int) -> None:
        status = os.fstat(descriptor)
        folder = stat.S_ISDIR(status.st_mode)
        known = status.st_ino in self.trace._nodes or status.st_ino == os.stat(self.trace.root).st_ino
        if not known:
            return self._real["fsync"](descriptor)  # type: ignore[no-any-return]
        with self._lock:
            self._alive()
            if not folder:
                self._snapshot(status.st_ino, os.pread(descriptor, status.st_size, 0))
            if self._weakness == ("no folder fsync" if folder else "no file fsync"):
                return
            node = self.trace.node(descriptor)
            if folder and self._weakness == "own names only" and node not in self._unsynced:
                return
            self._unsynced.discard(node)
            self._real["fsync"](descriptor)
            self.note("sync", node=node)


class Disk:
    """What is on the disk for sure, and what is only in its cache: for each name and file, all it may be."""

    def __init__(self) -> None:
        self._names: dict[int, dict[str, list[int | None]]] = {0: {}}  # folder -> name -> what it may lead to
        self._data: dict[int, list[int]] = {}  # file -> contents it may have
        self.told: dict[str, set[int]] = {}

    def can(self, op: Op) -> bool:
        """Whether a process could take this step now; one that waits for another cannot yet."""
        visible = self._names.get(op.node, {}).get(op.name, [None])[-1]
        match op.kind:
            case "make":
                return op.node in self._names and visible is None
            case "taken" | "seen" | "drop":
                return visible is not None
            case "sync":
                return op.node in self._names or op.node in self._data
        return True

    def apply(self, op: Op) -> None:
        """Take one step."""
        match op.kind:
            case "file":
                self._data[op.node] = [0]
            case "folder":
                self._names[op.node] = {}
            case "make":
                self._names[op.node].setdefault(op.name, [None]).append(op.target)
            case "drop":
                self._names[op.node].setdefault(op.name, [None]).append(None)
            case "data":
                self._data[op.node].append(op.target)
            case "sync" if op.node in self._data:
                self._data[op.node] = self._data[op.node][-1:]
            case "sync":
                self._names[op.node] = {name: may[-1:] for name, may in self._names[op.node].items()}
            case "told":
                self.told.setdefault(op.name, set()).add(op.target)

    def trees(self, half: Callable[[int], list[int]], limit: int, dice: random.Random) -> Iterator[Tree]:
        """Every tree that a power cut may leave now; where they are more than limit, that many drawn ones.

        half: what else than a content may be found where it was not synced.
        """
        doubts = self._doubts(half)
        for choice in _choices([len(may) for may in doubts.values()], limit, dice):
            chosen = {key: may[at] for (key, may), at in zip(doubts.items(), choice, strict=True)}
            yield frozenset(self._walk(0, "", chosen))

    def _doubts(self, half: Callable[[int], list[int]]) -> dict[Any, list[Any]]:
        """Each name or file that may be one thing or another, with all of these."""
        doubts: dict[Any, list[Any]] = {}
        waiting, seen = [0], {0}
        while waiting:
            for name, may in self._names[(folder := waiting.pop())].items():
                if len(set(may)) > 1:
                    doubts[(folder, name)] = list(dict.fromkeys(may))
                nodes = {node for node in may if node is not None} - seen
                seen |= nodes
                waiting += sorted(node for node in nodes if node in self._names)
                for node in sorted(nodes - self._names.keys()):
                    if len(self._data[node]) > 1:
                        kinds = [self._data[node][0]]
                        kinds += [each for data in self._data[node][1:] for each in (data, *half(data))]
                        doubts[node] = list(dict.fromkeys(kinds))
        return doubts

    def _walk(self, folder: int, above: str, chosen: dict[Any, Any]) -> Iterator[tuple[str, int]]:
        for name, may in self._names[folder].items():
            node = chosen.get((folder, name), may[-1])
            if node is None:
                continue
            if node in self._names:
                yield f"{above}{name}", FOLDER
                yield from self._walk(node, f"{above}{name}/", chosen)
            else:
                yield f"{above}{name}", chosen.get(node, self._data[node][-1])


def _choices(sizes: list[int], limit: int, dice: random.Random) -> Iterator[tuple[int, ...]]:
    """All combinations of so many values each; beyond limit: all first, all last, one apart, then drawn ones."""
    product = 1
    for size in sizes:
        product *= size
    if product <= limit:
        yield from itertools.product(*map(range, sizes))
        return
    first, last = (0,) * len(sizes), tuple(size - 1 for size in sizes)
    extremes = [first, last]
    extremes += [(*kept[:at], value, *kept[at + 1 :]) for at, size in enumerate(sizes) for kept in (first, last)
                 for value in range(size)]  # fmt: skip
    drawn = (tuple(dice.randrange(size) for size in sizes) for _ in range(limit))
    yield from itertools.islice(dict.fromkeys(itertools.chain(dice.sample(extremes, len(extremes)), drawn)), limit)


def interleaved(traces: list[list[Op]], dice: random.Random, asleep: str = "") -> list[Op]:
    """One order in which several processes may have taken their steps; one that can never go on is left out.

    One of them stands still right after it made a name (asleep, or any) until the others can do no more.
    """
    disk, order = Disk(), []
    waiting = [list(reversed(ops)) for ops in traces if ops]
    made = [(ops, left) for ops in waiting for left, op in enumerate(ops) if op.kind == "make"]
    sleeper, sleeps_at = dice.choice([(ops, left) for ops, left in made if asleep in ("", ops[left].name)])
    while able := [ops for ops in waiting if ops and disk.can(ops[-1])]:
        awake = [ops for ops in able if ops is not sleeper or len(ops) != sleeps_at]
        ops = dice.choice(awake or able)
        for _ in range(dice.randrange(1, 12)):
            if not ops or not disk.can(ops[-1]):
                break
            disk.apply(ops[-1])
            order.append(ops.pop())
            if ops is sleeper and len(ops) == sleeps_at:
                break
    return order
