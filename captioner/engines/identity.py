"""Which model a server says it serves, and whether it is the asked one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from captioner.engines.replies import shown
from captioner.errors import BadEngineResponse, ModelChanged

# The hub's cache keeps each revision in a folder of its commit.
_HUB_ID = re.compile(r"[\w.-]+/([\w.-]+)")
_SNAPSHOT = re.compile(r"/snapshots/([0-9a-f]{40})(?:/|$)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What a server says of itself; None where it does not say.

    model: the name to ask for. names: all names of this model; an answer may give any. root: its path or hub id.
    revision: the hub's commit. weights: SGLang's version of weights that were replaced while it ran.
    """

    dialect: str
    model: str
    names: frozenset[str]
    root: str | None = None
    revision: str | None = None
    weights: str | None = None

    @property
    def said(self) -> str:
        """All of it in one line, fit for a message."""
        details = [f"revision {self.revision}" if self.revision else None, self.weights and f"weights {self.weights}"]
        inside = ", ".join(shown(each) for each in (self.root, *details) if each)
        return shown(self.model) + (f" ({inside})" if inside else "")

    def same_model(self, other: Identity) -> bool:
        """Whether both are one model: another software version may serve it."""
        return self._model() == other._model()

    def _model(self) -> tuple[str | None, ...]:
        return self.model, self.root, self.revision, self.weights


@dataclass(slots=True, kw_only=True)
class Kin:
    """What the replicas of one pool have told of their model: one served name may hide two of them.

    Only what more than one replica tells can be compared, and of a hub id only the model's own name: a folder may look
    like one, and one checkpoint may lie in several.
    """

    told: dict[str, tuple[str, str]] = field(default_factory=dict)  # what -> (the first replica to tell, its word)

    def agree(self, name: str, identity: Identity) -> None:
        """Note what a replica tells. Raises ModelChanged, naming both, where another one told differently."""
        hub_id = _HUB_ID.fullmatch(identity.root or "")
        for what, word in (
            ("model", hub_id and hub_id.group(1)),
            ("revision", identity.revision),
            ("weights", identity.weights),
        ):
            if word is None:
                continue
            first, said = self.told.setdefault(what, (name, word))
            if word != said:
                raise ModelChanged(f"model_changed: {first} serves {what} {shown(said)}, and {name} {shown(word)}")


def identity_of(
    asked: str, dialect: str, models: Mapping[str, Any], info: Mapping[str, Any], server: Mapping[str, Any]
) -> Identity:
    """asked: a served name, or the path or hub id behind one. models, info, server: the JSON of /v1/models, and of
    SGLang's /model_info and /server_info, {} where there is none.

    Raises ModelChanged, naming both, when another model is served, and BadEngineResponse for a list that is none.
    """
    cards = models.get("data")
    if not isinstance(cards, list) or not all(isinstance(card, dict) and _text(card, "id") for card in cards):
        raise BadEngineResponse("/v1/models is no list of models")
    roots = {str(card["id"]): _root(card, info) for card in cards}
    model = asked if asked in roots else next((name for name, root in roots.items() if root == asked), None)
    if model is None:
        served = ", ".join(shown(name) + (f" ({shown(root)})" if root else "") for name, root in roots.items())
        raise ModelChanged(f"model_changed: asked for {shown(asked)}, but served is {served or 'no model'}")
    root = roots[model]
    snapshot = _SNAPSHOT.search(root or "")
    return Identity(
        dialect=dialect,
        model=model,
        names=frozenset(name for name in roots if name == model or (root and roots[name] == root)),
        root=root,
        revision=_text(server, "revision") or (snapshot and snapshot.group(1)) or None,
        weights=_text(info, "weight_version"),
    )


def _root(card: Mapping[str, Any], info: Mapping[str, Any]) -> str | None:
    """The path or hub id behind a card. SGLang repeats the name on it, and tells the path of its base model apart."""
    if info and not card.get("parent"):
        return _text(info, "model_path")
    return _text(card, "root")


def _text(found: Mapping[str, Any], name: str) -> str | None:
    value = found.get(name)
    return value if isinstance(value, str) and value else None
