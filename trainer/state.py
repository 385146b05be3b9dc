"""A training's state as safetensors: weights, the optimiser's moments by parameter name, random generators, lanes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from captioner.errors import CorruptState, OutOfService
from shards.durable import writing
from trainer.data.lane import Position

FILE_BYTES = 5 * 2**30
MOMENTS = ("exp_avg", "exp_avg_sq")


def whole(tensor: Tensor) -> Tensor:
    """On the CPU, and of all ranks where it was sharded: then every rank has to ask for it."""
    full = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return full.detach().cpu().contiguous()


@contextmanager
def filling(folder: Path) -> Iterator[None]:
    """Raises OutOfService where the disk is full or failing; safetensors has an error of its own for that."""
    try:
        with writing(str(folder)):
            yield
    except SafetensorError as error:
        raise OutOfService(f"cannot write {folder}: {error}") from error


def save_model(folder: Path, accelerator: Accelerator, model: nn.Module) -> None:
    """As `from_pretrained` reads it; all ranks call."""
    state = accelerator.get_state_dict(model)
    if accelerator.is_main_process:
        accelerator.unwrap_model(model).save_pretrained(folder, state_dict=state, max_shard_size=FILE_BYTES)


def moments(model: nn.Module, optimizer: Any) -> Iterator[tuple[str, Tensor]]:
    """`exp_avg/NAME`, `exp_avg_sq/NAME` and `step/NAME` of each parameter that trains; one whole tensor at a time."""
    if hasattr(optimizer, "optimizer"):
        optimizer = optimizer.optimizer
    for name, parameter in model.named_parameters():
        state = optimizer.state.get(parameter, {})
        for kind in (*MOMENTS, "step"):
            if kind in state:
                yield f"{kind}/{name}", whole(state[kind])


def save_optimizer(folder: Path, accelerator: Accelerator, model: nn.Module, optimizer: Any) -> None:
    """In files of FILE_BYTES; all ranks call, the main one writes."""
    held: dict[str, Tensor] = {}
    count = 0
    for name, tensor in moments(accelerator.unwrap_model(model), optimizer):
        if not accelerator.is_main_process:
            continue
        held[name] = tensor
        if sum(each.nbytes for each in held.values()) >= FILE_BYTES:
            save_file(held, folder / f"optimizer-{count:05d}.safetensors")
            held, count = {}, count + 1
    if accelerator.is_main_process:
        save_file(held, folder / f"optimizer-{count:05d}.safetensors")


def load_optimizer(folder: Path, accelerator: Accelerator, model: nn.Module, optimizer: Any) -> None:
    """Raises CorruptState where a moment is missing or of another shape."""
    if hasattr(optimizer, "optimizer"):
        optimizer = optimizer.optimizer
    places = {}
    for path in sorted(folder.glob("optimizer-*.safetensors")):
        with safe_open(path, framework="pt") as file:
            places |= dict.fromkeys(file.keys(), path)
    if not places:
        raise CorruptState(f"corrupt_state: {folder} has no state of the optimiser")
    for name, parameter in accelerator.unwrap_model(model).named_parameters():
        if parameter.requires_grad and f"step/{name}" in places:
            state = {kind: _read(places, f"{kind}/{name}") for kind in (*MOMENTS, "step")}
            if state["exp_avg"].shape != parameter.shape:
                raise CorruptState(f"corrupt_state: the optimiser's {name} is {tuple(state['exp_avg'].shape)}")
            optimizer.state[parameter] = {kind: _like(value, parameter, kind) for kind, value in state.items()}


def _read(places: Mapping[str, Path], name: str) -> Tensor:
    if name not in places:
        raise CorruptState(f"corrupt_state: the optimiser has no {name}")
    with safe_open(places[name], framework="pt") as file:
        return file.get_tensor(name)


def _like(value: Tensor, parameter: Tensor, kind: str) -> Tensor:
    if kind == "step":  # AdamW keeps it on the CPU
        return value
    value = value.to(parameter.device)
    if isinstance(parameter, DTensor):
        return distribute_tensor(value, parameter.device_mesh, parameter.placements)
    return value


def save_rank(folder: Path, rank: int, positions: Mapping[int, Position]) -> None:
    """What each rank has of its own: its lanes and its random generators."""
    (folder / f"lanes-{rank:05d}.json").write_text(json.dumps(dict(positions)))
    generators = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        generators["cuda"] = torch.cuda.get_rng_state()
    save_file(generators, folder / f"random-{rank:05d}.safetensors")


def load_lanes(folder: Path) -> dict[int, Position]:
    """The positions of all lanes, whichever rank had them."""
    found: dict[int, Position] = {}
    for path in sorted(folder.glob("lanes-*.json")):
        found |= {int(lane): position for lane, position in json.loads(path.read_text()).items()}
    return found


def load_random(folder: Path, rank: int) -> None:
    """This rank's generators, where it had some: there may be more ranks now."""
    path = folder / f"random-{rank:05d}.safetensors"
    if not path.exists():
        return
    with safe_open(path, framework="pt") as file:
        torch.set_rng_state(file.get_tensor("cpu"))
        if "cuda" in file.keys() and torch.cuda.is_available():  # noqa: SIM118
            torch.cuda.set_rng_state(file.get_tensor("cuda"))
