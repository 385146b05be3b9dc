"""Served models: what SGLang, vLLM and other servers of the OpenAI chat protocol are called in a recipe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

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
class SGLang:
    """SGLang servers, started by the run or given by --endpoints, where any other kind may stand as well.

    stream: hear answers token by token and hang up on one that loops. That saves its tokens and costs some 15 ms of
    CPU for an answer of 400 tokens.
    """

    version: ClassVar[int] = 1
    stream: bool = False

    def replica(self, url: str, whose: Whose) -> Replica:
        return _replica(url, whose, self.stream)


@dataclass(frozen=True, slots=True, kw_only=True)
class VLLM:
    """vLLM servers, started by the run or given by --endpoints, where any other kind may stand as well.

    stream: as SGLang's.
    """

    version: ClassVar[int] = 1
    stream: bool = False

    def replica(self, url: str, whose: Whose) -> Replica:
        return _replica(url, whose, self.stream)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAI:
    """Servers of the OpenAI chat protocol that somebody else runs, given by --endpoints.

    stream: as SGLang's.
    """

    version: ClassVar[int] = 1
    stream: bool = False

    def replica(self, url: str, whose: Whose) -> Replica:
        return _replica(url, whose, self.stream)


def _replica(url: str, whose: Whose, stream: bool) -> Replica:
    # Each server is asked what it is: --endpoints may mix them, and a row names the kind that answered it.
    return HttpReplica(
        url=url,
        model=whose.model,
        revision=whose.revision or None,
        key_variable=whose.key_variable or None,
        stream=stream,
    )
