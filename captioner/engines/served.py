"""Served models: what SGLang, vLLM and other servers of the OpenAI chat protocol are called in a recipe."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Protocol, runtime_checkable

from captioner.engines.identity import Kin
from captioner.engines.replica import HttpReplica
from captioner.types import Replica


@dataclass(frozen=True, slots=True, kw_only=True)
class Whose:
    """Which model a replica must serve. revision: the hub's commit, "" for any.

    key_variable: name of the environment variable that holds its API key, "" for none.
    """

    model: str
    revision: str = ""
    key_variable: str = ""


@runtime_checkable
class Served(Protocol):
    """An engine that runs apart from us, in any number of replicas; a pool of them is what captions."""

    def replica(self, url: str, whose: Whose) -> Replica:
        """One replica, not asked anything yet. Raises Refused for a URL that is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """Servers started by the run or given by --endpoints, SGLang, vLLM and others mixed: each is asked what it is.

    stream: hear answers token by token and hang up on one that loops. That saves its tokens and costs some 15 ms of
    CPU for an answer of 400 tokens.
    """

    version: ClassVar[int] = 1
    stream: bool = False
    _kin: Kin = field(default_factory=Kin, init=False, repr=False, compare=False)

    def replica(self, url: str, whose: Whose) -> Replica:
        return HttpReplica(
            url=url,
            model=whose.model,
            revision=whose.revision or None,
            key_variable=whose.key_variable or None,
            stream=self.stream,
            kin=self._kin,
        )
