"""Served models as a command line tells of them: which one, where it is served, and what it may cost."""

from __future__ import annotations

import math
import os
import shlex
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import tyro

from captioner.engines.pool import PoolSettings
from captioner.engines.replica import base_url
from captioner.engines.served import Served, Whose
from captioner.errors import Refused
from pipelines.costs import Price

MANAGED = ("sglang", "vllm")  # engines whose servers a run can start itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """A served model: servers that somebody else runs, or replicas that this run starts and keeps."""

    model: str = ""
    """Hub id, folder or served name, such as Qwen/Qwen2-VL-7B-Instruct. Part of the recipe."""
    revision: str = ""
    """The hub's commit; a server that tells another one is refused. Part of the recipe."""
    endpoints: str = ""
    """URLs of running servers, comma between them; SGLang, vLLM and others may be mixed."""
    replicas: int = 1
    """Without --endpoints: how many servers this run starts, each a Ray actor with GPUs of its own. On a cluster of
    several nodes they want a key: --key-variable."""
    tp: int = 1
    """GPUs of one replica (tensor parallel)."""
    device: Literal["cuda", "cpu"] = "cuda"
    """Where started servers compute."""
    engine_python: str = ""
    """The interpreter of the environment the engine is installed in, at one path on every node. Default: ours."""
    engine_flags: Annotated[str, tyro.conf.arg(metavar="'--FLAG …'")] = ""
    """More flags for started servers, as the engine spells them: --engine-flags='--flag value', with the `=`."""
    engine_logs: str = ""
    """Where each node keeps the logs of started servers. Default: recap-engines in the temporary folder."""
    recycle_growth_gib: float = 16.0
    """Restart a started server, once it is drained, when its memory has grown by so much; 0 for never."""
    recycle_answers: int = 0
    """Restart a started server, once it is drained, after so many answers; 0 for never."""
    key_variable: str = ""
    """The environment variable that holds the servers' API key, on every node. The key itself is never stored."""
    request_seconds: float = 600.0
    """Deadline of one request, from sending to its whole answer."""
    start_seconds: float = 1800.0
    """How long nobody may serve, at the start or later, before the run ends with exit code 3."""
    gpu_hour_price: float = 0.0
    """What one GPU costs an hour, in any currency: then the run tells what its captions cost."""
    gpus: int = 0
    """GPUs to count for the price. Default: those of started replicas."""
    budget: float = 0.0
    """Stop in order (exit code 3) once this start of the run has spent so much, in the price's currency."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How a worker reaches the replicas; travels in its constructor, so it holds a key's variable and never a key.

    replicas: how many are started where there are no endpoints. The seconds are those of Models, probe_seconds the
    pool's own.
    """

    whose: Whose
    endpoints: tuple[str, ...]
    replicas: int
    request_seconds: float
    start_seconds: float
    probe_seconds: float = 15.0

    def settings(self, max_slots: int) -> PoolSettings:
        """What the pool takes from the command line. max_slots: at one replica, 0 for the pool's own limit."""
        usual = PoolSettings(
            deadline_seconds=self.request_seconds, start_seconds=self.start_seconds, probe_seconds=self.probe_seconds
        )
        if not max_slots:
            return usual
        return replace(usual, first_window=min(usual.first_window, max_slots), max_window=max_slots)


def access_of(name: str, engine: type, models: Models) -> Access | None:
    """How the engine is reached, None for one that runs in the workers. Raises Refused for what does not fit."""
    if not issubclass(engine, Served):
        if models.model or models.endpoints or models.revision:
            raise Refused(f"--engine {name} brings its own model: leave out --model, --revision and --endpoints")
        return None
    if not models.model:
        raise Refused(f"--engine {name} wants --model, such as Qwen/Qwen2-VL-7B-Instruct")
    urls = tuple(dict.fromkeys(base_url(url) for url in models.endpoints.split(",") if url.strip()))
    if not urls and name not in MANAGED:
        raise Refused(f"--engine {name} wants --endpoints: only {' and '.join(MANAGED)} servers can be started here")
    if models.replicas < 1 or models.tp < 1:
        raise Refused("--replicas and --tp of 1 or more would be right")
    if models.recycle_answers < 0 or models.recycle_growth_gib < 0:
        raise Refused("--recycle-answers and --recycle-growth-gib of 0 or more would be right")
    if urls and (models.replicas, models.tp, models.engine_flags, models.engine_python) != (1, 1, "", ""):
        raise Refused("--replicas, --tp, --engine-flags and --engine-python are for servers that the run starts itself")
    if not (models.request_seconds > 0 and models.start_seconds > 0):
        raise Refused("--request-seconds and --start-seconds above 0 would be right")
    if models.key_variable and not os.environ.get(models.key_variable):
        raise Refused(f"the environment variable {models.key_variable} holds no key")
    return Access(
        whose=Whose(model=models.model, revision=models.revision, key_variable=models.key_variable),
        endpoints=urls,
        replicas=models.replicas,
        request_seconds=models.request_seconds,
        start_seconds=models.start_seconds,
    )


def price_of(models: Models) -> Price:
    """What the run costs while it goes. Raises Refused for a budget without a price."""
    gpus = models.gpus or (0 if models.endpoints or models.device == "cpu" else models.replicas * models.tp)
    if not (0 <= models.gpu_hour_price < math.inf and 0 <= models.budget < math.inf and models.gpus >= 0):
        raise Refused("a price, a budget and a number of GPUs of 0 or more would be right")
    if models.budget and not (models.gpu_hour_price and gpus):
        raise Refused("--budget wants --gpu-hour-price, and --gpus where the servers are not started by the run")
    return Price(gpu_hour=models.gpu_hour_price, gpus=gpus, budget=models.budget)


def engine_flags(models: Models) -> tuple[str, ...]:
    """The extra flags, split as a shell would. Raises Refused for quotes that do not close."""
    try:
        return tuple(shlex.split(models.engine_flags))
    except ValueError as error:
        raise Refused(f"--engine-flags: {error}") from error
