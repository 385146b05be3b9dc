"""What --input names: a folder, a glob, a list file, a URL prefix or one object, as objects with sizes and ETags."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote, unquote

from captioner.errors import Refused
from shards.blob import Listed
from shards.store import Store, absolute

LIST_FILES = (".txt", ".list", ".lst")
MARKS = "*?["
ASKERS = 16  # a list file may name a hundred thousand objects, each a request


def find(where: str, output: str = "") -> list[Listed]:
    """Every object under a folder, glob, list file, URL prefix or name, sorted by URL. Raises Refused for none.

    output: the run's own folder. What lies in it is no input: else the same command would find another plan there as
    soon as the first shard is written.
    """
    if where.lower().endswith(LIST_FILES) and not os.path.isdir(_path(absolute(where))):
        listed = _find_lines(where)
    else:
        listed = _find_one(where)
    if not listed:
        raise Refused(f"nothing found at {where!r}: a folder of tars, a glob, a list file or a URL prefix")
    own = f"{absolute(output)}/" if output else ""
    found = {each.url: each for each in listed if not own or not each.url.startswith(own)}
    if not found:
        raise Refused(f"all that is found at {where!r} lies in the output {output!r}")
    return sorted(found.values(), key=lambda each: each.url)


def _find_lines(where: str) -> list[Listed]:
    """What a list file's lines name. Raises Refused for a line that names nothing: it would be left out unseen."""
    lines = _lines(where)
    with ThreadPoolExecutor(ASKERS) as pool:
        found = list(pool.map(_find_one, lines))
    lost = [line for line, each in zip(lines, found, strict=True) if not each]
    if lost:
        raise Refused(f"{where!r}: nothing is found for {len(lost)} of its {len(lines)} lines, such as {lost[0]!r}")
    return [each for one in found for each in one]


def _lines(where: str) -> list[str]:
    folder, _, name = absolute(where).rpartition("/")
    try:
        text = Store(folder).read(unquote(name)).decode("utf-8-sig")
    except (FileNotFoundError, UnicodeDecodeError) as error:
        raise Refused(f"{where!r} is no list file: one path or URL a line, in UTF-8") from error
    lines = (line.strip() for line in text.split("\n"))
    return [line for line in lines if line and not line.startswith("#")]


def _find_one(where: str) -> list[Listed]:
    url = absolute(where)
    return _find_file(_path(url)) if url.startswith("file://") else _find_object(url)


def _path(url: str) -> str:
    """The path of a file:// URL, "" for any other."""
    return unquote(url.removeprefix("file://")) if url.startswith("file://") else ""


def _find_file(path: str) -> list[Listed]:
    """Marks of a glob in a name that is there as it stands are part of that name."""
    if os.path.isdir(path):
        return _listing(path)
    if os.path.isfile(path):
        return Store(_local(os.path.dirname(path))).found(os.path.basename(path))
    folder, rest = "", path.split("/")
    while len(rest) > 1 and os.path.isdir(f"{folder}/{rest[1]}"):
        folder, rest = f"{folder}/{rest[1]}", rest[1:]
    if not folder:  # nothing of it is there
        return []
    if any(mark in path[len(folder) :] for mark in MARKS):
        return _matching(_listing(folder), _local(folder), rest[1:])
    return _listing(folder, rest[1]) if len(rest) == 2 else []


def _find_object(url: str) -> list[Listed]:
    folder, _, name = url.rpartition("/")
    named = url.count("/") > 2  # and not a whole bucket
    wild = min((url.find(mark) for mark in MARKS if mark in url), default=-1)
    if wild >= 0:
        above = url[:wild].rpartition("/")[0]
        if found := _matching(Store(above).listing(), above, url[len(above) + 1 :].split("/")):
            return found
    elif named and "." in name and (found := Store(folder).found(name)):
        return found
    return Store(url).listing() or (Store(folder).listing(name) if named else [])


def _local(path: str) -> str:
    return "file://" + quote(path)


def _listing(folder: str, prefix: str = "") -> list[Listed]:
    return Store(_local(folder)).listing(prefix)


def _matching(listed: list[Listed], above: str, pattern: Sequence[str]) -> list[Listed]:
    """Those whose path below `above` a glob's parts describe, as a shell reads them: `**` is any number of folders."""
    local, skipped = above.startswith("file://"), len(above) + 1
    names = (unquote(each.url[skipped:]) if local else each.url[skipped:] for each in listed)
    return [each for each, name in zip(listed, names, strict=True) if _matches(name.split("/"), pattern)]


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_matches(parts[at:], pattern[1:] or ["*"]) for at in range(len(parts)))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])
