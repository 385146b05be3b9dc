"""A training stage as a Ray Train job, one worker a GPU; what `recap train` takes comes behind its own two options.

ray job submit --working-dir . -- python pipelines/recap_train.py --workers 8 --stage 2.1a --data … --output …
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ray
import tyro
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from rich.console import Console

from captioner.errors import OutOfService
from captioner.registry import load
from pipelines.actors import default_address, ray_cluster
from pipelines.cli import ABOVE, guarded


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    """Train a stage on a Ray cluster. Every further option is one of `recap train`."""

    workers: int = 1
    """Ranks, each with a GPU of its own."""
    cpu: bool = False
    """Ranks without GPUs, for trials."""
    restarts: int = 3
    """How often the ranks are started anew, from the newest checkpoint, when some of them are lost."""
    address: str | None = None
    """`local` starts Ray here; `auto` or HOST:PORT joins a cluster. Default: local; in a Ray job, its cluster."""


def rank(told: dict[str, Any]) -> None:
    """One rank's training, in the process that Ray Train gave it; its group of processes stands already."""
    _, _, place = ABOVE["train"]
    command: Any = load({"train": place}, "train")
    command(told["words"], Console())


def main(arguments: Sequence[str] | None = None) -> int:
    """Start the ranks and wait for them. Returns the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    own, further = tyro.cli(Workers, args=words, return_unknown_args=True)
    return guarded(lambda: _train(own, further))


def output_of(words: Sequence[str]) -> str:
    """The --output of `recap train`, spelt in either way; where it has none, here."""
    pairs = zip(words, [*words[1:], "."], strict=True)
    given = [after if word == "--output" else word for word, after in pairs if word.partition("=")[0] == "--output"]
    return given[-1].removeprefix("--output=") if given else "."


def _train(own: Workers, further: list[str]) -> int:
    with ray_cluster(own.address or default_address()):
        trainer = TorchTrainer(
            rank,
            train_loop_config={"words": further},
            scaling_config=ScalingConfig(num_workers=own.workers, use_gpu=not own.cpu),
            run_config=RunConfig(
                name="ray",
                storage_path=os.path.abspath(output_of(further)),
                failure_config=FailureConfig(max_failures=own.restarts),
            ),
            torch_config=TorchConfig(backend="gloo" if own.cpu else "nccl"),
        )
        try:
            trainer.fit()
        except ray.train.TrainingFailedError as error:
            raise OutOfService(f"the ranks failed: {error}") from error
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
