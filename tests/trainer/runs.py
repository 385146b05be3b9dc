"""Small trainings by the command, here or in processes of their own, and how two of them compare."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from torch import Tensor

from pipelines.cli import recap
from pipelines.servers.process import free_port
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


def forked(told: list[str], **environment: object) -> multiprocessing.process.BaseProcess:
    """The command in a process of its own, begun."""
    process = FORKS.Process(target=_train, args=(told, {name: str(value) for name, value in environment.items()}))
    process.start()
    return process


def _train(told: list[str], environment: dict[str, str]) -> None:
    os.environ.update(environment)
    raise SystemExit(recap(["train", *told]))


def on_two(told: list[str]) -> None:
    """The command as two processes that talk through gloo, with the environment that torchrun gives."""
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
    ranks = [forked(told, **meeting, RANK=rank, LOCAL_RANK=rank) for rank in range(2)]
    for rank in ranks:
        rank.join()
    assert [rank.exitcode for rank in ranks] == [0, 0]


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
