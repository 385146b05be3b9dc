"""How a training goes: loss, speed, use of the GPU, waiting for data; to the console and to TensorBoard."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary

from shards.durable import writing

LOG = "log.jsonl"
SMOOTHED = 0.9  # of what was; ten steps or so count


@dataclass(slots=True, kw_only=True)
class Meter:
    """Exponential means of a rank's steps. flops_per_second: the peak of all ranks' devices, None where unknown.

    A step lasts from `begin` to `step`: what lies between two, such as the saving of a checkpoint, is in neither.
    """

    flops_per_second: float | None
    clock: Callable[[], float] = time.perf_counter
    _means: dict[str, float] = field(default_factory=dict)
    _began: float = 0.0
    _waited: float = 0.0

    def begin(self) -> None:
        self._began = self.clock()

    def fed(self) -> None:
        """The step has its data: until now it has waited for them."""
        self._waited = self.clock() - self._began

    def step(self, loss: float, norm: float, tokens: int, samples: int, flops: float) -> Mapping[str, float]:
        """Close a step; the means, corrected for their beginning by starting with the first step's own values."""
        seconds = self.clock() - self._began
        seen = {"loss": loss, "gradient_norm": norm, "tokens_per_second": tokens / seconds}
        seen |= {"samples_per_second": samples / seconds, "data_wait": self._waited / seconds}
        if self.flops_per_second:
            seen["mfu"] = flops / seconds / self.flops_per_second
        # Of a mean that is not taken any more, an MFU on another device, nothing is told.
        means = {name: self._means.get(name, value) for name, value in seen.items()}
        self._means = {name: SMOOTHED * before + (1 - SMOOTHED) * seen[name] for name, before in means.items()}
        return self.means

    @property
    def means(self) -> dict[str, float]:
        return dict(self._means)

    def resume(self, means: Mapping[str, float]) -> None:
        self._means = dict(means)


class Board:
    """Where the main rank tells of it: a line a step in `folder`/log.jsonl, TensorBoard, and the console now and then.

    Steps that a killed run did again stand in the log twice; the later line counts. Other ranks give no folder and are
    silent. Leaving it closes its files. Raises OutOfService where they cannot be written: TensorBoard's too are written
    here, as tensorboardX's thread would die of a full disk and leave the next step waiting for it.
    """

    def __init__(self, console: Console, folder: Path | None) -> None:
        self._console, self._folder = console, folder
        if folder is not None:
            with writing(str(folder)):
                (folder / "tensorboard").mkdir(parents=True, exist_ok=True)
                self._events = EventsWriter(str(folder / "tensorboard/events"), f".{os.getpid()}")
                self._log = (folder / LOG).open("a")

    def __enter__(self) -> Board:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._folder is not None:
            with writing(str(self._folder)), self._log:
                self._events.close()

    def step(self, step: int, loss: float, rate: float, means: Mapping[str, float]) -> None:
        if self._folder is None:
            return
        values = [Summary.Value(tag=name, simple_value=each) for name, each in {**means, "learning_rate": rate}.items()]
        with writing(str(self._folder)):
            self._log.write(json.dumps({"step": step, "loss": loss, "learning_rate": rate}) + "\n")
            self._log.flush()
            self._events.write_event(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))
            self._events.flush()

    def tell(self, step: int, steps: int, rate: float, means: Mapping[str, float]) -> None:
        """A line on the console; `steps` is about how many there will be."""
        if self._folder is None:
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
