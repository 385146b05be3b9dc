"""Runs as a user starts them, and the processes that belong to one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]


def datacomp(input_: Path | str, out: Path | str, *options: str) -> list[str]:
    """The command of a run with the fake engine."""
    script = str(ROOT / "pipelines/recap_datacomp.py")
    return [sys.executable, script, "--input", str(input_), "--output", str(out), "--engine", "fake", *options]


def run(*command: str, timeout: float = 180, **options: object) -> subprocess.CompletedProcess[str]:
    """A command to its end."""
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, **options)  # type: ignore[call-overload,no-any-return]


def recap(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The console script."""
    return run(sys.executable, "-m", "pipelines", *arguments, cwd=ROOT)


def descendants(pid: int) -> dict[int, str]:
    """Every process under pid, by id, with its command line."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, ValueError, IndexError):
                continue
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return {each: words(each) for each in found - {pid}}


def words(pid: int) -> str:
    """A process's command line, or "" once it is gone."""
    try:
        return (Path("/proc") / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def kill(pid: int) -> bool:
    """SIGKILL; whether there was somebody to kill."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def all_gone(pids: list[int], seconds: float) -> bool:
    """Whether all of these are gone within so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not any(alive(pid) for pid in pids):
            return True
        time.sleep(0.2)
    return False
