"""The environment that img2dataset lives in: it pins a webdataset below 0.3, where Recap needs 1.0."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from captioner.errors import OutOfService, Refused

VERSION = "1.47.0"
HOME = f"~/.cache/recap/img2dataset-{VERSION}"
NEWEST = (3, 12)  # it imports imghdr, which Python 3.13 has not
ASK = "import importlib.metadata as about; print(about.version('img2dataset'))"
ASK_SECONDS = 120.0


def interpreter(given: str | None, install: bool, home: str = HOME) -> str:
    """The Python that has img2dataset: the one given, or that of `home`, which is made if asked. Raises Refused."""
    if given is not None:
        return _with_the_version(given)
    folder = Path(home).expanduser()
    if not (folder / "installed").exists():
        if not install:
            raise Refused(
                f"img2dataset {VERSION} is not installed: the same command with --install puts it into {folder}, an "
                f"environment of its own (800 MB); one that you have is named by --img2dataset-python PATH/bin/python"
            )
        make(folder)
    return _with_the_version(str(folder / "bin/python"))


def make(folder: Path) -> None:
    """An environment with img2dataset, from nothing. Raises Refused, OutOfService."""
    if sys.version_info[:2] > NEWEST:
        at_most = ".".join(map(str, NEWEST))
        raise Refused(
            f"img2dataset {VERSION} runs on Python up to {at_most}: python{at_most} -m venv {folder} && "
            f"{folder}/bin/pip install img2dataset=={VERSION}, then --img2dataset-python {folder}/bin/python"
        )
    shutil.rmtree(folder, ignore_errors=True)
    python = str(folder / "bin/python")
    try:
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, stdout=sys.stderr)
        words = [python, "-m", "pip", "--quiet", "--disable-pip-version-check", "install", f"img2dataset=={VERSION}"]
        subprocess.run(words, check=True, stdout=sys.stderr)
    except (OSError, subprocess.CalledProcessError) as error:
        raise OutOfService(f"img2dataset could not be installed into {folder}: {error}") from error
    (folder / "installed").write_text(VERSION)  # last: what was cut is made anew


def _with_the_version(python: str) -> str:
    """Raises Refused for an interpreter without it, or with another version than this was tried with."""
    try:
        told = subprocess.run(
            [python, "-I", "-c", ASK], capture_output=True, text=True, timeout=ASK_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Refused(f"--img2dataset-python {python} does not run: {error}") from error
    version = told.stdout.strip()
    if version != VERSION:
        has = f"has img2dataset {version}" if version else "has no img2dataset"
        raise Refused(f"{python} {has}: {python} -m pip install img2dataset=={VERSION} would be right")
    return python
