"""A training stage as data: what trains, on what, how long; and the arithmetic that follows from it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

Group = Literal["patch_embedding", "vision", "text", "guidance"]

# Of the 7B models: parameters of the 28 decoder layers that one token passes, their count and width.
ACTIVE, LAYERS, WIDTH = 6_526_000_000, 28, 3584
# What a GPU-hour is taken to do: 40 % of the 989 TFLOP/s (bf16) in NVIDIA's data sheet of the H100 SXM.
FLOPS_PER_SECOND = 0.4 * 989e12
TEXT_TOKENS = 250  # of a caption of 190 words


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    name: str
    samples: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """How pictures enter: `mode` of image_size.MODES, `max_side` in pixels, `frames` of a video.

    `tokens` is what a square picture at the cap takes, over all frames.
    """

    mode: Literal["train", "longest_edge", "any_resolution"]
    max_side: int
    tokens: int
    frames: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class AdamW:
    """The optimiser of every stage: transformers' defaults, which the released scripts leave alone."""

    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    max_gradient_norm: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One row of the papers' tables.

    `released_lr` is the learning rate of the released script where it differs from the paper's. `max_text_tokens`
    bounds the text before pictures are put in, as the released loader does.
    """

    name: str
    family: Literal["eve-v2", "elva"]
    follows: str | None  # the stage whose weights it starts from; None: a Qwen2 checkpoint
    copies_vision: bool = False  # vision layers are made from the text layers before the first step
    corpora: tuple[Corpus, ...]
    trains: tuple[Group, ...]
    pictures: Pictures
    batch: int
    peak_lr: float
    released_lr: float | None = None
    warmup: float  # share of the steps
    epochs: int = 1
    template: Literal["plain", "qwen2"]
    max_text_tokens: int
    merging: bool = False
    guided: bool = False
    optimizer: AdamW = AdamW()

    @property
    def samples(self) -> int:
        return sum(corpus.samples for corpus in self.corpora)

    @property
    def all_samples(self) -> int:
        """Of all epochs."""
        return self.samples * self.epochs

    @property
    def steps(self) -> int:
        return math.ceil(self.all_samples / self.batch)

    @property
    def warmup_steps(self) -> int:
        return math.ceil(round(self.steps * self.warmup, 6))  # 0.03 is not exact: 100 steps would have 4


class Parameter(Protocol):
    requires_grad: bool


class Model(Protocol):
    def named_parameters(self) -> Iterator[tuple[str, Parameter]]: ...


def group(name: str) -> Group:
    """Whose a tensor is, by its released name; what is nobody's is the text's (embeddings, last norm, vocabulary)."""
    if "vision_tower." in name:
        return "patch_embedding"
    if "guide." in name:
        return "guidance"
    return "vision" if any(part.startswith("moe_") for part in name.split(".")) else "text"


def trainable(model: Model, stage: Stage) -> dict[str, bool]:
    """For every tensor of the model, whether the stage trains it. Raises ValueError if a group has no tensor."""
    groups = {name: group(name) for name, _ in model.named_parameters()}
    missing = set(stage.trains) - set(groups.values())
    if missing:
        raise ValueError(f"stage {stage.name} trains {sorted(missing)}, of which this model has no tensor")
    return {name: each in stage.trains for name, each in groups.items()}


def freeze(model: Model, stage: Stage) -> None:
    """Gives a gradient to what the stage trains and to nothing else."""
    decided = trainable(model, stage)
    for name, parameter in model.named_parameters():
        parameter.requires_grad = decided[name]


def learning_rate(stage: Stage, step: int) -> float:
    """Linear warm-up, then a cosine to 0 at the last step (transformers' "cosine"); `step` counts from 0."""
    if step < stage.warmup_steps:
        return stage.peak_lr * step / stage.warmup_steps
    along = (step - stage.warmup_steps) / max(1, stage.steps - stage.warmup_steps)
    return stage.peak_lr * 0.5 * (1 + math.cos(math.pi * along))


def gpu_hours(stage: Stage) -> float:
    """H100-hours of a 7B model with every picture at the cap: arithmetic and so an upper bound, not a measurement.

    A token's pass through a weight is 2 FLOPs forward, 2 recomputed (checkpointing), 2 for the input's gradient, 2 for
    the weight's where it trains; causal attention is 2 T^2 D a layer forward, and four times that in all.
    """
    vision, tokens = stage.pictures.tokens, stage.pictures.tokens + TEXT_TOKENS
    trained = vision * ("vision" in stage.trains or stage.family == "elva") + TEXT_TOKENS * ("text" in stage.trains)
    linear = ACTIVE * (6 * tokens + 2 * trained)
    attention = 4 * 2 * LAYERS * tokens**2 * WIDTH
    return stage.samples * stage.epochs * (linear + attention) / FLOPS_PER_SECOND / 3600
