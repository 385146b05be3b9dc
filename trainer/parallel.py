"""Several GPUs: accelerate, set up by one word; torchrun, `accelerate launch` or a Ray job start the ranks."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from torch import Tensor

from captioner.errors import Refused

LAYERS = ("EVEDecoderLayer",)
PLANS = ("auto", "fsdp2")
KNOWN = (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU, DistributedType.FSDP)


def accelerator_for(plan: str, precision: str, rows_a_rank: int) -> Accelerator:
    """`auto`: what `accelerate launch` was told, else DDP if there are several ranks. Raises Refused.

    A step's rows are accumulated, so the gradient travels once a step.
    """
    plugins: dict[str, Any] = {}
    if plan == "fsdp2":
        plugins["fsdp_plugin"] = FullyShardedDataParallelPlugin(
            fsdp_version=2,
            auto_wrap_policy="transformer_based_wrap",
            transformer_cls_names_to_wrap=list(LAYERS),
            state_dict_type="FULL_STATE_DICT",
        )
    elif plan != "auto":
        raise Refused(f"--parallel {plan!r}; there is {', '.join(PLANS)}")
    accelerator = Accelerator(
        mixed_precision="bf16" if precision == "bf16" else "no",
        gradient_accumulation_steps=rows_a_rank,
        cpu=not torch.cuda.is_available(),
        **plugins,
    )
    if accelerator.distributed_type not in KNOWN:
        # Its optimiser is in pieces of its own, which checkpoints here would leave out without a word.
        raise Refused(f"{accelerator.distributed_type.value} is not supported: --parallel fsdp2 shards as ZeRO-3 does")
    return accelerator


@contextlib.contextmanager
def ranks() -> Iterator[tuple[int, int]]:
    """This rank and how many there are, as the launcher's environment says; a group of processes made within ends."""
    theirs = dist.is_initialized()  # Ray Train makes one before it calls us, and ends it
    yield int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if dist.is_initialized() and not theirs:
        dist.destroy_process_group()


def lanes_of(rank: int, world: int, lanes: int) -> list[int]:
    """A rank's lanes. Raises Refused where they do not share out evenly."""
    if lanes % world:
        raise Refused(f"{lanes} rows a step do not share out among {world} ranks: a multiple would be right")
    return list(range(rank, lanes, world))


def summed(values: Tensor) -> Tensor:
    """The sum over all ranks."""
    if dist.is_initialized() and dist.get_world_size() > 1:
        dist.all_reduce(values)
    return values


def from_first(value: int, device: torch.device) -> int:
    """Rank 0's value, on all of them."""
    told = torch.tensor([value], dtype=torch.long, device=device)
    if dist.is_initialized() and dist.get_world_size() > 1:
        dist.broadcast(told, 0)
    return int(told)
