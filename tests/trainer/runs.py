"""Small trainings by the command, here or in processes of their own, and how two of them compare."""

from __future__ import annotations

import multiprocessing
import resource
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from torch import Tensor
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from pipelines.cli import recap
from trainer import checkpoint, commands
from trainer.meter import losses

LONG = 64  # samples, of which a step takes twelve or so

# Processes are forked from one that has imported torch and transformers: that takes 5 s of a core.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload([__name__])


def words(yard: Path, stage: str, *more: object, data: str = "") -> list[str]:
    """A small training of a stage; every step saves nothing but the last."""
    told = ["--stage", stage, "--data", data or str(yard / "out"), "--output", str(yard / "run")]
    told += ["--model-config", str(yard / "llm/fields.json"), "--precision", "fp32", "--max-side", "96"]
    told += ["--batch", "12", "--rows", "4", "--budget", "256", "--samples", str(LONG), "--peak-lr", "1e-3"]
    return [*told, *map(str, more)]


def train(told: list[str]) -> None:
    assert commands.train(told, Console(quiet=True)) == 0


def forked(told: list[str], processes: int = 1) -> multiprocessing.process.BaseProcess:
    """The command in a process of its own, begun; several are torchrun's, and talk through gloo."""
    process = FORKS.Process(target=_trained if processes == 1 else _launched, args=(told, processes))
    process.start()
    return process


def _trained(told: list[str], _: int = 1) -> None:
    if code := recap(["train", *told]):
        raise SystemExit(code)


def _launched(told: list[str], processes: int) -> None:
    """What torchrun does, but that its processes are forked too."""
    here = {"rdzv_backend": "c10d", "rdzv_endpoint": "127.0.0.1:0", "start_method": "fork"}
    elastic_launch(LaunchConfig(min_nodes=1, max_nodes=1, nproc_per_node=processes, **here), _trained)(told)


def on_two(told: list[str]) -> None:
    process = forked(told, processes=2)
    process.join()
    assert process.exitcode == 0


def weights(run: Path) -> dict[str, Tensor]:
    newest = checkpoint.latest(run)
    assert newest is not None
    return load_file(newest.folder / "model.safetensors")


def same(one: Path, other: Path) -> None:
    """To the bit."""
    assert losses(one) == losses(other)
    ours, theirs = weights(one), weights(other)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def alike(one: Path, other: Path) -> None:
    """To rounding: two processes add in another order."""
    assert losses(one) == pytest.approx(losses(other), abs=1e-4)
    ours, theirs = weights(one), weights(other)
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-3, atol=1e-5)


def with_files_of(most: int, told: list[str]) -> int | None:
    """The exit code of a training whose files cannot grow beyond so many bytes, as on a disk that is full."""
    process = FORKS.Process(target=_limited, args=(most, told))
    process.start()
    process.join(60)
    process.kill()  # one that hangs
    process.join()
    return process.exitcode


def _limited(most: int, told: list[str]) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    _trained(told)
