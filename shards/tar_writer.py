"""Tars as webdataset lays them out, front to back, the same bytes for the same samples.

Python's tarfile is enough for that. webdataset's own writer imports torch wherever it is installed, 2 s and 200 MB in
every worker of a run that never touches a tensor, and wants each member whole in memory.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from typing import IO, Any

READ_ONLY = 0o444


def open_tar(sink: Any) -> tarfile.TarFile:
    """An empty tar whose bytes go to sink.write, in order, as members are added; to be closed for its end."""
    return tarfile.open(fileobj=sink, mode="w|")


def add(tar: tarfile.TarFile, name: str, file: IO[bytes], size: int) -> None:
    """One member of that many bytes, from where the file stands: no owner, no time, so that equal samples are equal."""
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, READ_ONLY
    tar.addfile(member, file)


def add_sample(tar: tarfile.TarFile, key: str, parts: Mapping[str, bytes]) -> None:
    """A sample's members `<key>.<extension>`, by extension."""
    for extension, data in sorted(parts.items()):
        add(tar, f"{key}.{extension}", io.BytesIO(data), len(data))
