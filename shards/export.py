"""Exporting: a corpus in another program's form, where every captioned sample goes out or is left out for a reason."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from captioner.errors import CorruptState, PlanMismatch, Refused
from captioner.recipe import Limits, canonical, differences, to_json
from captioner.registry import build, load, part
from shards import plan as plans
from shards.formats import FORMATS
from shards.keys import SeenKeys
from shards.ledger import Row
from shards.manifest import Manifest
from shards.outgoing import LEFT_OUT, Choice, Format, Opened, Outgoing, outgoing
from shards.reading import open_corpus
from shards.store import Store
from shards.upright import upright

NAME, SUMMARY, CARD = "export.json", "summary.json", "README.md"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is exported and how. version: of the corpus, None for its newest. settings: of the format, those that were
    given. upright: turned pictures are set upright, as few loaders do that."""

    corpus: str
    to: str
    format: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    choice: Choice = field(default_factory=Choice)
    version: int | None = None
    upright: bool = True


@dataclass(slots=True, kw_only=True)
class Account:
    """What became of a corpus's captioned samples so far. captioned: all that it has."""

    manifest: int
    shards: int
    captioned: int
    exported: int = 0
    left_out: Counter[str] = field(default_factory=Counter)

    @property
    def looked_at(self) -> int:
        return self.exported + self.left_out.total()


def export(order: Order, told: Callable[[Account], None] = lambda account: None) -> Account:
    """Write the export, or what a killed one has left to do; told hears the account after each sample.

    `summary.json` is written last: an export without one is not complete. Raises Refused, PlanMismatch where something
    else was exported there, CorruptState, OutOfService.
    """
    format_, to = _format(order), Store(order.to)
    version, shards = open_corpus(order.corpus, order.version)
    _refuse_inside(order)
    _begin(order, version, to)
    account = Account(manifest=version.number, shards=len(shards), captioned=sum(each.samples for each in shards))
    if SUMMARY in to.names(SUMMARY):
        return _complete_already(to, account)
    with upright(_limits(order.corpus)) as turned:
        stands = turned if order.upright else lambda media: media
        format_.write(_samples((Opened(shard, stands) for shard in shards), _keeper(order, format_, account, told)), to)
    if account.looked_at != account.captioned:
        raise CorruptState(f"{account.looked_at} samples were looked at, where {account.captioned} are captioned")
    to.create(CARD, card(order, version, account).encode())
    to.create(SUMMARY, canonical(_summary(account)) + b"\n")
    return account


def _format(order: Order) -> Format:
    settings = part(FORMATS, order.format, **order.settings).settings
    if settings.get("samples_a_file", 1) < 1:
        raise Refused(f"--samples-a-file {settings['samples_a_file']}: 1 or more would be right")
    built: Format = build(FORMATS, order.format, settings)
    return built


def _refuse_inside(order: Order) -> None:
    """Raises Refused for an export into the corpus: `gc` and `verify` would find files that nobody committed."""
    inside, whole = f"{Store(order.to).url}/", f"{Store(order.corpus).url}/"
    if inside.startswith(whole):
        raise Refused(f"--to {order.to} is inside the corpus; a folder of its own would be right")


def _begin(order: Order, version: Manifest, to: Store) -> None:
    """Say what is exported here, before anything is. Raises PlanMismatch, Refused."""
    said = part(FORMATS, order.format, **order.settings)
    plan = {
        "run": version.plan,
        "manifest": version.number,
        "manifest_sha256": version.sha256,
        "format": to_json(said),
        "choice": to_json(order.choice),
        "upright": order.upright,
    }
    if NAME not in to.names(NAME) and to.names():
        raise Refused(f"--to {order.to} holds something else; an empty or new folder would be right")
    if to.create(NAME, canonical(plan) + b"\n"):
        return
    there = json.loads(to.read(NAME))
    if there != plan:
        raise PlanMismatch(list(differences(there, plan)))


def _limits(corpus: str) -> Limits:
    """Those that the corpus's pictures were decoded within."""
    plan = plans.read(Store(corpus))
    return Limits(**plan.recipe["limits"]) if plan is not None else Limits()


def _keeper(order: Order, format_: Format, account: Account, told: Callable[[Account], None]) -> Callable[[Row], bool]:
    """Says of each sample whether it goes, and books it."""
    seen = SeenKeys()

    def kept(row: Row) -> bool:
        why = order.choice.against(row, format_.clips, seen)
        if why is not None:
            account.left_out[why] += 1
        else:
            account.exported += 1
        told(account)
        return why is None

    return kept


def _samples(shards: Iterable[Opened], kept: Callable[[Row], bool]) -> Iterator[Outgoing]:
    for opened in shards:
        yield from outgoing(opened, opened.shard.rows(), kept)


def _summary(account: Account) -> dict[str, Any]:
    return {
        "manifest": account.manifest,
        "shards": account.shards,
        "captioned": account.captioned,
        "exported": account.exported,
        "left_out": dict(sorted(account.left_out.items())),
    }


def _complete_already(to: Store, account: Account) -> Account:
    there = json.loads(to.read(SUMMARY))
    account.exported, account.left_out = there["exported"], Counter(there["left_out"])
    return account


def card(order: Order, version: Manifest, account: Account) -> str:
    """What lies in an export, for whoever finds it."""
    left = "\n".join(f"| {why} | {count:,} | {LEFT_OUT[why]} |" for why, count in sorted(account.left_out.items()))
    layout = " ".join((load(FORMATS, order.format).__doc__ or "").split())
    unfinished = "" if version.complete else " The corpus was not complete when this was made."
    return f"""# {account.exported:,} recaptioned samples, as {order.format}

{layout}

From version {version.number} (sha256 `{version.sha256}`) of the corpus of run `{version.plan}`, which has
{account.captioned:,} captioned samples.{unfinished}
Turned pictures are {"set upright" if order.upright else "as they were stored"}.

| left out | samples | because |
|---|---|---|
{left or "| - | 0 | nothing was left out |"}

The pictures keep the licences of their source; the captions were written by a machine and may be wrong.
"""
