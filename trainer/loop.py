"""The training loop: a step is one row of every lane; the loss is the mean over all tokens that have a label."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from rich.console import Console
from torch import Tensor, nn

from captioner.errors import CorruptState, PlanMismatch, Refused
from captioner.recipe import differences, to_json
from trainer import checkpoint, manners, state
from trainer.checkpoint import Checkpoint
from trainer.data.entries import Feed, Reader
from trainer.data.lane import Order, Position
from trainer.data.loader import USUAL, Ahead, Batch, Loader
from trainer.data.pixels import normalised
from trainer.flops import Cost, cost_of, peak
from trainer.meter import Board, Meter
from trainer.parallel import from_first, lanes_of, summed
from trainer.stage import Stage, learning_rate
from trainer.teacher import Teacher
from trainer.words import Words


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A stage over some feeds, into a folder. stop_after: steps at most in this start, 0 for no limit. teacher: the
    folder of a guided stage's. asked: what else of the command line decides the result."""

    stage: Stage
    feeds: Sequence[Feed]
    reader: Reader
    order: Order
    output: Path
    save_every: int = 1000
    keep: int = 3
    log_every: int = 10
    ahead: Ahead = USUAL
    stop_after: int = 0
    teacher: str = ""
    asked: Mapping[str, Any] = field(default_factory=dict)

    @property
    def told(self) -> dict[str, Any]:
        """What decides the result; a run is not resumed with another."""
        feeds = [{"name": each.name, "version": each.version, "weight": each.weight} for each in self.feeds]
        order, hold_out = to_json(self.order), self.reader.hold_out
        return {"stage": to_json(self.stage), "feeds": feeds, "order": order, "hold_out": hold_out, **self.asked}

    def refuse_another(self, there: Checkpoint) -> None:
        """Raises PlanMismatch for a checkpoint of another job than this."""
        if rows := differences(there.told["job"], self.told):
            raise PlanMismatch(rows)


@dataclass(slots=True, kw_only=True)
class Seen:
    """What the model has seen so far, on all ranks."""

    step: int = 0
    samples: int = 0
    tokens: int = 0
    targets: int = 0
    bad: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """losses: of each step of this start. checkpoint: the last, whose manifest says `complete` if the stage is done."""

    losses: list[float]
    checkpoint: Checkpoint


def clip(accelerator: Accelerator, model: nn.Module, most: float) -> float:
    """Scale the gradients so that their norm is at most `most`; the norm before that.

    By name: vision layers that were copied in come last in a model, and elsewhere in the same one read from its
    checkpoint. A sum's last bits hang on its order, and with them the losses of a run that is resumed.
    """
    norm = accelerator.clip_grad_norm_([parameter for _, parameter in sorted(model.named_parameters())], most)
    return float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)


class Trainer:
    """One rank's part of a job. Its model must have its gradients set, see `start.beginning`."""

    def __init__(self, job: Job, accelerator: Accelerator, model: nn.Module, words: Words, console: Console) -> None:
        self.job, self.accelerator, self.words, self.console = job, accelerator, words, console
        self.teacher = Teacher(job.teacher, accelerator.device) if job.stage.guided else None
        self.cost: Cost = cost_of(model.config, job.stage)  # type: ignore[arg-type]
        self.one_picture = job.stage.family == "eve-v2"
        chosen = job.stage.optimizer
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(
            trained, lr=0.0, betas=chosen.betas, eps=chosen.epsilon, weight_decay=chosen.weight_decay
        )
        self.model, self.optimizer = accelerator.prepare(model, optimizer)
        self.seen, self.positions = Seen(), dict[int, Position]()
        self.last: Checkpoint | None = None
        one, world = peak(accelerator.device), accelerator.num_processes
        self.meter = Meter(flops_per_second=one * world if one else None)

    @property
    def rate(self) -> float:
        """By samples seen, in units of the stage's batch: rows hold varying numbers of samples."""
        return learning_rate(self.job.stage, self.seen.samples / self.job.stage.batch)

    @property
    def steps(self) -> int:
        """About how many there will be, by what a step has taken so far: rows hold more or less than --batch says."""
        along = min(1.0, self.seen.samples / self.job.stage.all_samples)
        return round(self.seen.step / along) if along else self.job.stage.steps

    @property
    def complete(self) -> bool:
        return self.seen.samples >= self.job.stage.all_samples

    def resume(self, there: Checkpoint) -> None:
        """Go on behind a checkpoint of this job whose weights the model has. Raises CorruptState."""
        told = there.told["seen"]
        self.seen = Seen(**told | {"bad": Counter(told["bad"])})
        self.meter.resume(there.told["means"])
        self.positions = state.load_lanes(there.folder)
        if sorted(self.positions) != list(range(self.job.order.lanes)):
            raise CorruptState(f"corrupt_state: {there.folder} has not the positions of all lanes")
        state.load_optimizer(there.folder, self.accelerator, self.model, self.optimizer)
        state.load_random(there.folder, self.accelerator.process_index)
        self.last = there

    def train(self) -> Finished:
        """Steps until the stage has seen its samples. Raises Refused, OutOfService, CorruptState."""
        job, losses = self.job, list[float]()
        mine = lanes_of(self.accelerator.process_index, self.accelerator.num_processes, job.order.lanes)
        loading = Loader(job.feeds, job.reader, job.order, mine=mine, positions=self.positions, ahead=job.ahead)
        self.model.train()
        with loading as loader, Board(self.console, job.output if self.accelerator.is_main_process else None) as board:
            steps = iter(loader)
            while not self.complete and not (job.stop_after and len(losses) >= job.stop_after):
                self.meter.begin()
                batches = next(steps)
                self.meter.fed()
                rate = self.rate
                losses.append(self.step(batches))
                board.step(self.seen.step, losses[-1], rate, self.meter.means)
                if self.seen.step % job.log_every == 0 or self.complete:
                    board.tell(self.seen.step, self.steps, rate, self.meter.means)
                if self.seen.step % job.save_every == 0:
                    self.last = self.save()
        if self.last is None or self.last.step != self.seen.step:
            self.last = self.save()
        return Finished(losses=losses, checkpoint=self.last)

    def step(self, batches: list[Batch]) -> float:
        """One update; the mean loss over all ranks' targets."""
        counts = [sum(batch.targets for batch in batches), sum(batch.samples for batch in batches)]
        counts += [sum(batch.ids_1T.shape[1] for batch in batches), sum(sum(batch.bad.values()) for batch in batches)]
        targets, samples, tokens, bad = summed(torch.tensor(counts, device=self.accelerator.device)).tolist()
        if not self.seen.step and samples >= (whole := self.job.stage.all_samples):
            raise Refused(
                f"one step takes {samples:,} samples and {self.job.stage.name} has {whole:,}: its only step would have "
                "the first one's learning rate, 0. A smaller --batch or fewer --rows would be right"
            )
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate
        total, norm, flops = torch.zeros((), device=self.accelerator.device), 0.0, 0.0
        scale = self.accelerator.num_processes * len(batches)  # what DDP and accumulation divide by
        for batch in batches:
            with self.accelerator.accumulate(self.model):
                loss = self.forward(batch, targets)
                total += loss.detach()
                self.accelerator.backward(loss * scale)
                if self.accelerator.sync_gradients:
                    norm = clip(self.accelerator, self.model, self.job.stage.optimizer.max_gradient_norm)
                self.optimizer.step()
                self.optimizer.zero_grad()
            self.positions[batch.lane] = batch.position
            flops += self.flops(batch)
        loss_of_step = float(summed(total))
        self.seen = replace_counts(self.seen, samples, tokens, targets, bad)
        self.meter.step(loss_of_step, norm, tokens, samples, flops * self.accelerator.num_processes)
        return loss_of_step

    def forward(self, batch: Batch, targets: int) -> Tensor:
        """This row's share of the step's mean."""
        device = self.accelerator.device
        dtype = torch.bfloat16 if self.accelerator.mixed_precision == "bf16" else torch.float32
        moved = [each.to(device, non_blocking=True) for each in batch.pictures_F3HW]
        pictures = [normalised(each[0] if self.one_picture else each, dtype) for each in moved]
        more: dict[str, Any] = {}
        if self.teacher is not None:
            more["taught"] = [self.teacher.look(each) for each in moved]
            more["taught_share"] = 1 / self.job.order.lanes
        out = self.model(
            batch.ids_1T.to(device),
            position_ids=batch.positions_1T.to(device),
            pixel_values=pictures,
            labels=batch.labels_1T.to(device),
            num_items_in_batch=max(1, targets),
            **more,
        )
        loss: Tensor = out.loss
        return loss

    def flops(self, batch: Batch) -> float:
        starts = (batch.positions_1T[0] == 0).nonzero().flatten().tolist()
        lengths = [stop - at for at, stop in zip(starts, [*starts[1:], batch.ids_1T.shape[1]], strict=True)]
        vision = int((batch.ids_1T == self.job.reader.image_token_id).sum())
        squares = sum(length**2 for length in lengths)
        return self.cost.step(batch.ids_1T.shape[1] - vision, vision, batch.targets, squares)

    def save(self) -> Checkpoint:
        """All ranks write what is theirs, the main one publishes."""
        accelerator, run = self.accelerator, self.job.output
        attempt = f"{from_first(secrets.randbits(62), accelerator.device):016x}"
        folder = checkpoint.staging(run, self.seen.step, attempt)
        accelerator.wait_for_everyone()
        with state.filling(folder):
            state.save_model(folder, accelerator, self.model)
            state.save_optimizer(folder, accelerator, self.model, self.optimizer)
            state.save_rank(folder, accelerator.process_index, self.mine)
        accelerator.wait_for_everyone()
        lanes = state.load_lanes(folder) if accelerator.is_main_process else {}
        left_out = sum((Counter(lane["left_out"]) for lane in lanes.values()), Counter[str]())
        told = {
            "step": self.seen.step,
            "complete": self.complete,
            "seen": to_json(self.seen),
            "left_out": dict(left_out),
            "means": self.meter.means,
            "job": self.job.told,
            "ranks": accelerator.num_processes,
        }
        if accelerator.is_main_process:
            with state.filling(folder):
                self.words.save(folder)
                manners.write(folder, self.job.stage)
            checkpoint.publish(folder, told)
            checkpoint.tidy(run, self.job.keep)
        accelerator.wait_for_everyone()
        return Checkpoint(folder=folder, told=told)

    @property
    def mine(self) -> dict[int, Position]:
        """The positions of this rank's lanes."""
        lanes = lanes_of(self.accelerator.process_index, self.accelerator.num_processes, self.job.order.lanes)
        return {lane: self.positions[lane] for lane in lanes if lane in self.positions}


def replace_counts(seen: Seen, samples: int, tokens: int, targets: int, bad: int) -> Seen:
    return replace(
        seen,
        step=seen.step + 1,
        samples=seen.samples + samples,
        tokens=seen.tokens + tokens,
        targets=seen.targets + targets,
        bad=seen.bad + Counter({"bad_picture": bad}) if bad else seen.bad,
    )
