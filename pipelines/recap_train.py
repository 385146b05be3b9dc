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

from captioner.errors import OutOfService, Refused
from captioner.registry import load
from pipelines.actors import default_address, ray_cluster
from pipelines.cli import ABOVE, guarded

OUTPUT_OF = {"train": "trainer.commands:output_of"}  # what the words say, read before Ray starts


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
    return guarded(lambda: fit(own, further))


def fit(own: Workers, further: list[str]) -> int:
    """Raises Refused for words that no rank would take, before any is started; OutOfService where the ranks failed."""
    if own.workers < 1 or own.restarts < 0:
        raise Refused("--workers of 1 or more and --restarts of 0 or more would be right")
    output_of: Any = load(OUTPUT_OF, "train")
    output, address = os.path.expanduser(output_of(further)), own.address or default_address()
    if address == "auto" and not os.path.isabs(output):
        raise Refused(f"--output {output} is relative to Ray's copy of the working directory: give a whole path")
    with ray_cluster(address):
        trainer = TorchTrainer(
            rank,
            train_loop_config={"words": further},
            scaling_config=ScalingConfig(num_workers=own.workers, use_gpu=not own.cpu),
            run_config=RunConfig(
                name="ray",
                storage_path=os.path.abspath(output),
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
