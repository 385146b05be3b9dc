"""Checkpoints: a folder made whole, then its manifest, written last; safetensors and JSON, nothing pickled.

RUN/checkpoints/0000100-<attempt>/   weights as `from_pretrained` reads them, tokenizer, optimiser, lanes, random
RUN/checkpoints/0000100.json         names each file with its bytes and sha256, and says what the model has seen
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Any

from captioner.errors import CorruptState, Refused
from captioner.recipe import canonical
from shards import commits
from shards.durable import sync_folder, writing
from shards.store import Store

HASHERS = 8
FOLDER = "checkpoints"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A published checkpoint. told: its manifest."""

    folder: Path
    told: Mapping[str, Any]

    @property
    def step(self) -> int:
        return int(self.told["step"])


def staging(run: Path, step: int, attempt: str) -> Path:
    """The folder to fill for a step. All ranks give the same attempt."""
    folder = run / FOLDER / f"{step:07d}-{attempt}"
    with writing(str(folder)):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def publish(folder: Path, told: Mapping[str, Any]) -> Checkpoint:
    """Make a filled folder durable, then write its manifest. Raises OutOfService, Refused if the step has one."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    with writing(str(folder)), ThreadPoolExecutor(HASHERS) as pool:
        listed = list(pool.map(lambda path: _kept(folder, path), files))
        for each in {path.parent for path in files} | {folder, folder.parent}:
            sync_folder(each)
    whole = dict(told) | {"folder": folder.name, "files": listed}
    name = f"{int(told['step']):07d}.json"
    if not Store(str(folder.parent)).create(name, canonical(whole) + b"\n"):
        raise Refused(f"{folder.parent / name} is there already: two trainings write to one folder")
    return Checkpoint(folder=folder, told=whole)


def _kept(folder: Path, path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        os.fsync(file.fileno())
        sha256 = file_digest(file, "sha256").hexdigest()
        return {"name": str(path.relative_to(folder)), "bytes": file.tell(), "sha256": sha256}


def published(run: Path) -> list[Path]:
    """The manifests there are, by step."""
    return sorted((run / FOLDER).glob("[0-9]*.json"))


def named(manifest: Path) -> Checkpoint:
    """What a manifest says, whether or not its files are there. Raises CorruptState for a manifest that is none."""
    try:
        told = json.loads(manifest.read_text())
        return Checkpoint(folder=manifest.parent / told["folder"], told=told)
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise CorruptState(f"corrupt_state: {manifest} is no manifest of a checkpoint ({error})") from error


def read(manifest: Path) -> Checkpoint:
    """Raises CorruptState for a manifest that is none, or whose files are gone or of another length."""
    there = named(manifest)
    before = f"; without {manifest.name} the checkpoint before it counts"
    try:
        lengths = {each["name"]: (there.folder / each["name"]).stat().st_size for each in there.told["files"]}
    except (KeyError, TypeError, OSError) as error:
        raise CorruptState(f"corrupt_state: {manifest} is not a whole checkpoint ({error}){before}") from error
    if wrong := [each["name"] for each in there.told["files"] if lengths[each["name"]] != each["bytes"]]:
        raise CorruptState(f"corrupt_state: files of {manifest} have another length: {wrong[:4]}{before}")
    return there


def latest(run: Path) -> Checkpoint | None:
    """The newest, None where there is none. Raises CorruptState."""
    there = published(run)
    return read(there[-1]) if there else None


def damaged(checkpoint: Checkpoint) -> list[str]:
    """The files whose bytes are not those that were published."""
    told = {each["name"]: each["sha256"] for each in checkpoint.told["files"]}
    with ThreadPoolExecutor(HASHERS) as pool:
        now = list(pool.map(lambda name: _kept(checkpoint.folder, checkpoint.folder / name)["sha256"], told))
    return [name for name, sha256 in zip(told, now, strict=True) if sha256 != told[name]]


def tidy(run: Path, keep: int) -> None:
    """Remove all but the newest `keep` checkpoints, and folders that never got a manifest; manifests go first.

    An older checkpoint whose files are gone, to make room perhaps, does not end a training that has a newer one.
    """
    there = published(run)
    for manifest in there[: -max(keep, 1)]:
        manifest.unlink(missing_ok=True)
    if not (run / FOLDER).is_dir():
        return
    kept = {named(manifest).folder.name for manifest in published(run)}
    for folder in (run / FOLDER).iterdir():
        if folder.is_dir() and folder.name not in kept:
            shutil.rmtree(folder, ignore_errors=True)


def model_folder(where: str | Path) -> Path:
    """The folder of weights that a path means: itself, or a run's newest checkpoint. Raises Refused, CorruptState."""
    path = Path(where).expanduser()
    if (path / "config.json").is_file():
        return path
    if (found := latest(path)) is not None:
        return found.folder
    raise Refused(f"no model at {path}: a folder with config.json, or a training run with a checkpoint")


def told_of(folder: Path) -> Checkpoint | None:
    """The published checkpoint that a folder of weights is; None for other weights. Raises CorruptState."""
    manifest = _manifest(folder)
    there = read(manifest) if manifest.is_file() else None
    return there if there is not None and there.told["folder"] == folder.name else None


def _manifest(folder: Path) -> Path:
    return folder.parent / f"{folder.name.partition('-')[0]}.json"


def identity(folder: Path) -> tuple[str, str]:
    """(model, revision): the stage and step of a published checkpoint and its manifest's sha256; of other weights the
    folder's name, and a sha256 of its config and the names and lengths of its files."""
    if (there := told_of(folder)) is not None:
        return f"{there.told['job']['stage']['name']}@{there.step}", commits.sha256_of(_manifest(folder).read_bytes())
    files = sorted((path.name, path.stat().st_size) for path in folder.glob("*.safetensors"))
    return folder.name, commits.sha256_of((folder / "config.json").read_bytes() + canonical(files))


def refuse_far(where: str) -> Path:
    """A run's folder as a path. Raises Refused for a URL of an object store."""
    path = Store(where).path
    if path is None:
        raise Refused(f"--output {where}: checkpoints go to a disk that all ranks see; copy them from there")
    return path
