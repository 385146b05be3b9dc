"""How a training goes: loss, speed, use of the GPU, waiting for data; to the console and to TensorBoard."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from tensorboardX import SummaryWriter

LOG = "log.jsonl"
SMOOTHED = 0.9  # of what was; ten steps or so count


@dataclass(slots=True, kw_only=True)
class Meter:
    """Exponential means of a rank's steps. flops_per_second: the peak of all ranks' devices, None where unknown."""

    flops_per_second: float | None
    _means: dict[str, float] = field(default_factory=dict)
    _began: float = field(default_factory=time.perf_counter)
    _waited: float = 0.0

    def waited(self, seconds: float) -> None:
        self._waited += seconds

    def step(self, loss: float, norm: float, tokens: int, samples: int, flops: float) -> Mapping[str, float]:
        """Close a step; the means, corrected for their beginning by starting with the first step's own values."""
        now = time.perf_counter()
        seconds, self._began = now - self._began, now
        seen = {"loss": loss, "gradient_norm": norm, "tokens_per_second": tokens / seconds}
        seen |= {"samples_per_second": samples / seconds, "data_wait": self._waited / seconds}
        if self.flops_per_second:
            seen["mfu"] = flops / seconds / self.flops_per_second
        for name, value in seen.items():
            before = self._means.get(name, value)
            self._means[name] = SMOOTHED * before + (1 - SMOOTHED) * value
        self._waited = 0.0
        return self.means

    @property
    def means(self) -> dict[str, float]:
        return dict(self._means)

    def resume(self, means: Mapping[str, float]) -> None:
        self._means = dict(means)


class Board:
    """Where the main rank tells of it: a line a step in `folder`/log.jsonl, TensorBoard, and the console now and then.

    Steps that a killed run did again stand in the log twice; the later line counts. Other ranks give no folder and are
    silent. Leaving it closes its files.
    """

    def __init__(self, console: Console, folder: Path | None) -> None:
        self._console = console
        self._writer: SummaryWriter | None = None
        if folder is not None:
            self._writer = SummaryWriter(str(folder / "tensorboard"))
            self._log = (folder / LOG).open("a")

    def __enter__(self) -> Board:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._writer is not None:
            self._writer.close()
            self._log.close()

    def step(self, step: int, loss: float, rate: float, means: Mapping[str, float]) -> None:
        if self._writer is None:
            return
        self._log.write(json.dumps({"step": step, "loss": loss, "learning_rate": rate}) + "\n")
        self._log.flush()
        for name, value in means.items():
            self._writer.add_scalar(name, value, step)
        self._writer.add_scalar("learning_rate", rate, step)

    def tell(self, step: int, steps: int, rate: float, means: Mapping[str, float]) -> None:
        """A line on the console; `steps` is about how many there will be."""
        if self._writer is None:
            return
        mfu = f"  MFU {means['mfu']:.1%}" if "mfu" in means else ""
        self._console.print(
            f"step {step}/~{steps}  loss {means['loss']:.4f}  lr {rate:.2e}  norm {means['gradient_norm']:.2f}  "
            f"{means['tokens_per_second']:,.0f} tok/s  {means['samples_per_second']:.1f} samples/s{mfu}  "
            f"data wait {means['data_wait']:.0%}",
            highlight=False,
            soft_wrap=True,
        )


def losses(folder: Path) -> list[float]:
    """Of each step, from a run's log."""
    lines = [json.loads(line) for line in (folder / LOG).read_text().splitlines()]
    return list({line["step"]: line["loss"] for line in lines}.values())
