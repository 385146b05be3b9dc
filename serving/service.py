"""A picture's or clip's way through the service: share, admit, caption as the pipeline would, say what became of it."""

from __future__ import annotations

import asyncio
import hashlib
import math
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import IO, Any

from captioner.captioning import Captioner
from captioner.errors import EngineUnavailable, MediaError, OutOfService
from captioner.external import external_of
from captioner.filters import FILTERS
from captioner.media.clip_format import header_of, kind_of
from captioner.media.decoders import DecoderPool
from captioner.presets import with_max_tokens
from captioner.recipe import Asking, Pace, Recipe, digest, to_json
from captioner.registry import build
from captioner.types import (
    Caption,
    Decision,
    Decoded,
    Decoder,
    External,
    Failure,
    Filter,
    Filtered,
    FrameBudget,
    Kind,
    Outcome,
    PixelBudget,
    Rejection,
    Sample,
    Unreadable,
)
from pipelines.connection import Connection
from pipelines.options import told
from serving.admission import UNASKED, Admission
from serving.bodies import Wish
from serving.engine import Attended
from serving.keys import Key
from serving.problems import Problem
from serving.repeats import Repeats
from serving.settings import Bounds
from serving.shares import Booking, Shares
from serving.uploads import Recipes, Rule, rule_of

Answer = Mapping[str, Any]

STOPPED = "it passed while the engine worked; the work was stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One picture or clip to caption, as all checks in front have left it. deadline: in the loop's seconds."""

    key: Key
    wish: Wish
    media: bytes
    deadline: float
    fresh: bool = False


class Service:
    """What a process keeps open: decoders, the engine, and the books of who may have how much."""

    def __init__(self, recipes: Recipes, way: Connection, pace: Pace, bounds: Bounds) -> None:
        self.recipe, self.clips = recipes["image"], recipes.get("video")
        self.pace, self.bounds = pace, bounds
        self._rules = {kind: rule_of(kind, recipe) for kind, recipe in recipes.items()}
        self.engine = Attended(way)
        frames = self.clips.asking.frames if self.clips is not None else None
        self.decoders = DecoderPool(pace.decoders, self.recipe.limits, clips=frames.reader if frames else "")
        self.admission = Admission(self._room, bounds.queue)
        self.shares = Shares()
        self.idempotent: Repeats[Answer] = Repeats(10_000, bounds.cache_seconds)
        self.cached: Repeats[Answer] = Repeats(bounds.cache_entries, bounds.cache_seconds)
        self.draining = False
        self._timeouts: set[asyncio.Timeout] = set()
        self._ends = math.inf
        self._held = 0
        self._external: External | None = None
        self._captioner = lru_cache(maxsize=64)(self._new_captioner)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Service]:
        """Open all of it; the engine may still be starting when this yields."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.decoders)
            if (external := external_of(self.recipe.asking.told)) is not None:
                self._external = await stack.enter_async_context(external)
            await stack.enter_async_context(self.engine)
            yield self

    def end_by(self, when: float) -> None:
        """Stop what is still under way then, and what comes until then, with a 504. when: in the loop's seconds."""
        self._ends = min(self._ends, when)
        for each in self._timeouts:
            if not each.expired():  # it has fired already, and its task has only not run yet
                each.reschedule(min(self._ends, each.when() or self._ends))

    @asynccontextmanager
    async def within(self, deadline: float) -> AsyncIterator[None]:
        """Until the deadline, or until the service ends where that is sooner; TimeoutError then."""
        async with asyncio.timeout_at(min(deadline, self._ends)) as timeout:
            self._timeouts.add(timeout)
            try:
                yield
            finally:
                self._timeouts.discard(timeout)

    @property
    def ready(self) -> bool:
        """Whether a request that comes now would be served."""
        return self.engine.ready and not self.draining and not self.admission.full

    @property
    def ready_seen(self) -> bool:
        """The same as it was last, for other threads."""
        return self.engine.ready_seen and not self.draining and not self.admission.full_seen

    @property
    def takes_prompt(self) -> bool:
        """Whether a request may bring words of its own."""
        return bool(self.recipe.asking.prompt) and self.recipe.asking.told is None

    @contextmanager
    def holding(self, size: int) -> Iterator[None]:
        """Bytes of a picture, clip or frames, for as long as a request holds them. Raises Problem overloaded."""
        if self._held + size > self.bounds.held_mib * 2**20:
            raise Problem("overloaded", "requests under way hold as many bytes as they may")
        self._held += size
        try:
            yield
        finally:
            self._held -= size

    async def answer(self, asked: Asked) -> Answer:
        """The answer to one picture or clip; the same one, asked in the same way by the same tenant, is asked once.

        Raises Problem for everything that is no caption.
        """
        rule = self._rules.get(asked.wish.kind or kind_of(asked.media))
        if rule is None:
            raise Problem("clip_not_taken")
        asking = _asking(rule, asked.wish)
        sha256 = hashlib.sha256(asked.media).hexdigest()
        content = asked.key.tenant, sha256, rule.made, digest(to_json(asking))

        async def make() -> Answer:
            return await self._decided(asked, rule, asking)

        if asked.fresh or not self.bounds.cache_entries:
            return {"id": _id(), **await make(), "cached": False}
        made, before = await self.cached.once(content, make, asked.deadline)
        return {"id": _id(), **made, "cached": before}

    async def _decided(self, asked: Asked, rule: Rule, asking: Asking) -> Answer:
        if not self.engine.serves:
            raise Problem("engine_unavailable")
        loop = asyncio.get_running_loop()
        began = loop.time()
        sample = Sample(key="uploaded", kind=rule.kind, media=asked.media, meta={}, source_shard="http")
        waited: float | None = None
        try:
            async with self.within(asked.deadline), self.admission.enter(asked.key.tenant, asked.deadline) as waited:
                with self.shares.booking(asked.key, _pixels(sample, asking)) as booking:
                    decision = await self._judged(sample, asking, booking)
        except TimeoutError:
            raise Problem("deadline_exceeded", STOPPED if waited is not None else UNASKED) from None
        except (EngineUnavailable, OutOfService):
            raise Problem("engine_unavailable") from None
        timings = {
            "waited_seconds": round(waited, 3),
            "engine_seconds": round(decision.engine_seconds, 3),
            "total_seconds": round(loop.time() - began, 3),
        }
        return _told(rule.recipe, asking, decision) | {"timings": timings}

    async def _judged(self, sample: Sample, asking: Asking, booking: Booking) -> Decision:
        captioner = self._captioner(sample.kind, asking)
        with ExitStack() as held:
            decoder = _Accounting(decoder=self.decoders, holding=self.holding, held=held, booking=booking)
            return await replace(captioner, decoder=decoder).decide(sample)

    def _room(self) -> int:
        """The engine's places, and as many as keep the decoders busy meanwhile."""
        return self.engine.room() + self.pace.decoders

    def _new_captioner(self, kind: Kind, asking: Asking) -> Captioner:
        rule = self._rules[kind]
        parts = (told(each, asking.prompt, rule.recipe.asking.prompt) for each in rule.recipe.filters)
        filters: tuple[Filter, ...] = tuple(build(FILTERS, each.name, each.settings) for each in parts)
        return Captioner(
            screens=rule.screens,
            decoder=self.decoders,
            engine=self.engine,
            asking=asking,
            filters=filters,
            external=self._external if asking.told is not None else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Accounting:
    """A decoder that books the pixels it looked at, and whose frames count as held bytes until the stack ends: those of
    a clip may come to 64 MiB."""

    decoder: Decoder
    holding: Callable[[int], AbstractContextManager[None]]
    held: ExitStack
    booking: Booking

    async def decode(self, media: bytes, budget: PixelBudget) -> Decoded:
        """Raises as the decoder does."""
        decoded = await self.decoder.decode(media, budget)
        self.booking.correct(decoded.width * decoded.height)
        return decoded

    async def watch(self, media: bytes | IO[bytes], budget: FrameBudget) -> Decoded:
        """Raises as the decoder does; Problem overloaded."""
        decoded = await self.decoder.watch(media, budget)
        self.booking.correct(len(set(decoded.times)) * decoded.width * decoded.height)
        distinct = {id(each): len(each.jpeg) for each in decoded.frames}
        self.held.enter_context(self.holding(sum(distinct.values())))
        return decoded


def _asking(rule: Rule, wish: Wish) -> Asking:
    """How this request's picture or clip is asked about. Raises Problem prompt_not_taken."""
    asking = rule.recipe.asking
    if wish.prompt is None and wish.max_tokens is None:
        return asking
    if not asking.prompt:
        raise Problem("prompt_not_taken", f"{rule.recipe.engine.name} says what it sees, in words of its own")
    if wish.prompt is not None and asking.told is not None:
        raise Problem("prompt_not_taken", "its prompt tells the engine what else is known of a picture")
    asking = with_max_tokens(asking, wish.max_tokens or 0)
    if wish.prompt is None:
        return asking
    sha256 = hashlib.sha256(wish.prompt.encode()).hexdigest()
    return replace(asking, prompt=wish.prompt, prompt_id=f"request-{sha256[:12]}", prompt_sha256=sha256)


def _pixels(sample: Sample, asking: Asking) -> int:
    """As a picture's header has them, 0 for what has none, which is no picture; of a clip the most that is asked about.

    How large a clip's frames are is only known once a decoder process has opened it.
    """
    if sample.kind == "video" and asking.frames is not None:
        return asking.frames.max_frames * asking.frames.pixels.max_pixels
    try:
        header = header_of(sample)
    except MediaError:
        return 0
    return (header.width or 0) * (header.height or 0)


def _told(recipe: Recipe, asking: Asking, decision: Decision) -> dict[str, Any]:
    """The answer's members. Raises Problem for what a batch would have filtered, found unreadable or failed."""
    size = {"width": decision.width, "height": decision.height, "duration": decision.duration}
    match decision.outcome:
        case Filtered(reason=reason, detail=detail) | Unreadable(reason=reason, detail=detail):
            raise Problem(reason, detail, shown={name: value for name, value in size.items() if value})
        case Failure(reason=reason):  # its detail quotes the engine, and may name hosts and paths
            raise Problem(reason)
    verdict, caption = _kept(decision.outcome)
    return {
        "caption": caption.text,
        "accepted": verdict is None,
        "reason": verdict,
        "finish_reason": caption.finish_reason,
        "engine": caption.engine or recipe.engine.name,
        "model": recipe.model,
        "model_revision": recipe.model_revision,
        "prompt_id": asking.prompt_id,
        **size,
        "frame_times": decision.frame_times,
        "usage": {"prompt_tokens": caption.prompt_tokens, "completion_tokens": caption.completion_tokens},
        "attempts": decision.attempts,
        "signals": dict(decision.signals),
        "facts": caption.facts,
    }


def _kept(outcome: Outcome) -> tuple[str | None, Caption]:
    """(why a batch would have dropped the caption, None where it would have kept it; the caption)."""
    if isinstance(outcome, Rejection):
        return outcome.reason, outcome.caption
    assert isinstance(outcome, Caption), "everything else has been told as a problem"
    return None, outcome


def _id() -> str:
    return f"cap-{secrets.token_hex(12)}"
