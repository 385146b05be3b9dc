"""The fleet: the replicas that a run asks, those at its endpoints or those that it starts, keeps and shows."""

from __future__ import annotations

import logging
import math
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from captioner.engines import ENGINES
from captioner.engines.frames import frames_at_once
from captioner.engines.served import Served, Whose
from captioner.errors import ModelChanged, OutOfService
from captioner.recipe import canonical, to_json
from captioner.registry import build
from captioner.types import FrameBudget
from pipelines.engine_hosts import Host, Hosting, Watch, start_hosts, stop_hosts
from pipelines.models import Access, Models, engine_flags
from pipelines.servers.keeper import ServerState, Upkeep
from pipelines.servers.launch import ServerSpec
from pipelines.servers.process import Running
from shards.status import ENGINES_SEEN
from shards.store import Store

log = logging.getLogger("recap")

LOOK_SECONDS = 1.0
NOTICE_SECONDS = 5.0  # a server that drains gives every worker this long to hear of it; it is looked up in two
TOLD_SECONDS = 10.0
SNAPSHOT_SECONDS = 30.0
CPUS = {"cuda": 4.0, "cpu": 0.5}  # of a node, for one server's tokenizers and picture processors


def hosting_of(name: str, models: Models, access: Access, frames: FrameBudget | None = None) -> Hosting | None:
    """How this run's own servers are hosted, None where others run them; frames: of each of the run's videos.

    Raises Refused for an impossible spec.
    """
    if access.endpoints:
        return None
    spec = ServerSpec(
        engine=name,
        model=models.model,
        revision=models.revision,
        device=models.device,
        tensor_parallel=models.tp,
        passed=("HF_TOKEN",),
        flags=engine_flags(models),
        max_videos=math.ceil(frames.max_frames / frames_at_once(frames.pixels.max_pixels)) if frames else 0,
    )
    return Hosting(
        spec=spec,
        python=models.engine_python or sys.executable,
        logs=models.engine_logs or str(Path(tempfile.gettempdir()) / "recap-engines"),
        loopback=not models.key_variable,
        key_variable=models.key_variable,
        cpus=CPUS[models.device],
        place_seconds=models.start_seconds,
        upkeep=Upkeep(
            running=Running(start_seconds=models.start_seconds),
            max_growth_bytes=int(models.recycle_growth_gib * 2**30),
            max_answers=models.recycle_answers,
            notice_seconds=NOTICE_SECONDS,
            drain_seconds=models.request_seconds,
        ),
    )


async def prove(name: str, settings: Mapping[str, Any], whose: Whose, url: str) -> None:
    """Whether the server at a URL serves the recipe's model and answers a tiny request. Raises EngineError, Refused."""
    engine: Served = build(ENGINES, name, settings)
    replica = engine.replica(url, whose)
    try:
        await replica.prove()
    finally:
        await replica.close()


@dataclass(slots=True, kw_only=True)
class Fleet:
    """Where a run's replicas are now. Without hosts they are where the command line says, for ever.

    held_cpus: CPUs of the cluster that the hosts take.
    """

    store: Store
    access: Access
    hosts: tuple[Host, ...] = ()
    held_cpus: float = 0.0
    _watch: Watch | None = field(init=False)
    states: tuple[ServerState, ...] = ()
    _looked: float = -1e9
    _saved: float = field(default_factory=time.monotonic)
    # The newest run's comes last by name: what a killed one left does not hide it.
    _folder: str = field(default_factory=lambda: f"{ENGINES_SEEN}{time.time_ns():020d}{secrets.token_hex(6)}")
    _number: int = 0

    def __post_init__(self) -> None:
        self._watch = Watch(self.hosts) if self.hosts else None

    def lost(self) -> str | None:
        """Why nobody will serve any more, None while somebody may: every server of ours has been given up."""
        if not self.states or any(state.state != "gave_up" for state in self.states):
            return None
        return next((state.last_error for state in self.states if state.last_error), "the engines say nothing")

    def urls(self) -> tuple[str, ...]:
        """Of the replicas that serve, looked up at most every LOOK_SECONDS."""
        if self._watch is None:
            return self.access.endpoints
        if time.monotonic() - self._looked >= LOOK_SECONDS:
            self.states = tuple(self._watch.latest())
            self._looked = time.monotonic()
        return tuple(sorted(state.url for state in self.states if state.state == "serving"))

    def wait(self, seconds: float, stopped: Any) -> tuple[str, ...]:
        """The URLs, once one replica serves; none when stopped() says so. Raises OutOfService after so long."""
        began = told = time.monotonic()
        while not (urls := self.urls()) and not stopped():
            now, last = time.monotonic(), self.lost()
            if last is not None or now - began > seconds:
                last = last or next((state.last_error for state in self.states if state.last_error), "they say nothing")
                kind = ModelChanged if last.startswith("model_changed") else OutOfService
                raise kind(f"no engine serves after {now - began:.0f} s; the last words: {last}")
            if now - told >= TOLD_SECONDS:
                told = now
                log.info("engines starting: %s", ", ".join(f"{state.name} {state.state}" for state in self.states))
            time.sleep(0.5)
        return urls

    def save(self, replicas: Callable[[], list[dict[str, Any]]]) -> None:
        """Leave what the replicas are doing where `recap status` finds it; a cache, and never evidence."""
        if time.monotonic() - self._saved < SNAPSHOT_SECONDS:
            return
        self._saved, before = time.monotonic(), self._number
        self._number += 1
        hosts = [to_json(replace(state, last_error=state.last_error[-500:])) for state in self.states]
        seen = canonical({"time": int(time.time()), "hosts": hosts, "replicas": replicas()})
        with suppress(OutOfService):  # the run has better uses for a store that is gone than this
            self.store.create(f"{self._folder}/{self._number:06d}.json", seen)
            self.store.delete([f"{self._folder}/{before:06d}.json"] if before else [])

    def close(self) -> None:
        """End what this run started, and its snapshot."""
        try:
            if self.hosts:
                stop_hosts(self.hosts)
        finally:
            with suppress(OutOfService):
                self.store.delete(self.store.names(f"{self._folder}/"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Starting:
    """Servers that are to be started. grows, stopped: see start_hosts."""

    hosting: Hosting
    grows: bool
    stopped: Callable[[], bool]


@contextmanager
def fleet_of(store: Store, access: Access, starting: Starting | None, settings: Mapping[str, Any]) -> Iterator[Fleet]:
    """The fleet for the time of a run; its servers are still starting when this yields."""
    hosts: list[Host] = []
    if starting is not None:
        proved = partial(prove, starting.hosting.spec.engine, dict(settings), access.whose)
        hosting = starting.hosting
        hosts = start_hosts(hosting, access.replicas, proved, grows=starting.grows, stopped=starting.stopped)
    fleet = Fleet(store=store, access=access, hosts=tuple(hosts), held_cpus=sum(host.cpus for host in hosts))
    try:
        yield fleet
    finally:
        fleet.close()
