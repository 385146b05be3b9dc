"""An answer that comes in token by token, and may be hung up on as soon as it goes round in a loop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from captioner.engines.openai import Asked
from captioner.engines.replies import (
    LARGEST_REPLY,
    MOST_TOKENS,
    agree,
    finish_of,
    parsed,
    raise_if_error,
    usage_of,
    whole_caption,
)
from captioner.errors import BadEngineResponse
from captioner.filters.repeats import FEWEST_COPIES, LONGEST_BLANK, LONGEST_PERIOD, longest_loop, number_tokens
from captioner.filters.repetition import Repetition
from captioner.filters.text import tokens
from captioner.types import Caption

# A look every so many events costs the same however long the answer is, so that all of them are linear together.
LOOK_EVERY = 32
# Three copies of the longest period, at eight characters a token: what lies further back is no part of a loop.
LOOK_AT = FEWEST_COPIES * LONGEST_PERIOD * 8
# An event has one token in 200 to 400 bytes of JSON.
LARGEST_EVENT = 2**16
_RULE = Repetition()


@dataclass(slots=True, kw_only=True)
class Hearing:
    """One streamed answer so far. done: its last event came. looping: nothing after this will be of use."""

    asked: Asked
    done: bool = False
    looping: bool = False
    _rest: bytes = b""
    _pieces: list[str] = field(default_factory=list)
    _tail: str = ""
    _size: int = 0
    _events: int = 0
    _finish: str | None = None
    _usage: tuple[int | None, int | None] = (None, None)

    def feed(self, chunk: bytes) -> None:
        """Takes bytes as they arrive, cut anywhere. Raises BadEngineResponse, or what an error event stands for."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > LARGEST_EVENT:
            raise BadEngineResponse(f"an event over {LARGEST_EVENT} bytes")
        for line in lines:
            # Everything else in a stream of events is a comment, a name, or the empty line between two.
            if line.startswith(b"data:"):
                self._hear(line[5:].strip())

    def caption(self) -> Caption:
        """What was said. Raises BadEngineResponse for an answer that stops in the middle."""
        if self._finish is None and not self.looping:
            raise BadEngineResponse("the stream ended in the middle")
        prompt_tokens, told = self._usage
        completion_tokens = told if told is not None else min(self._events, MOST_TOKENS)
        saved = max(0, self.asked.sampling.max_tokens - completion_tokens) if self.looping else 0
        caption = Caption(
            text="".join(self._pieces),
            finish_reason="loop" if self.looping else self._finish or "missing",
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            tokens_saved=saved,
        )
        return whole_caption(caption, self.asked)

    def _hear(self, data: bytes) -> None:
        if data == b"[DONE]":
            self.done, self._finish = True, self._finish or "missing"
            return
        event = parsed(data)
        raise_if_error(event)
        if not self._events:
            agree(event, self.asked)
        usage = usage_of(event)
        self._usage = usage if usage[1] is not None else self._usage
        choices = event.get("choices")
        if choices:  # the event with the final usage has none
            self._hear_choice(choices)

    def _hear_choice(self, choices: Any) -> None:
        if not isinstance(choices, list) or not isinstance(choices[0], dict):
            raise BadEngineResponse("an event without a choice")
        choice: Mapping[str, Any] = choices[0]
        delta = choice.get("delta")
        text = delta.get("content") if isinstance(delta, dict) else None
        if text is not None and not isinstance(text, str):
            raise BadEngineResponse("an event whose content is not text")
        self._finish = finish_of(choice) or self._finish
        if not text:
            return
        self._pieces.append(text)
        self._size += len(text)
        if self._size > LARGEST_REPLY:
            raise BadEngineResponse(f"an answer over {LARGEST_REPLY} bytes")
        self._events += 1
        if self._events % LOOK_EVERY == 0 and self._finish is None:
            self._tail = (self._tail + "".join(self._pieces[-LOOK_EVERY:]))[-LOOK_AT:]
            self.looping = goes_round(self._tail)


def goes_round(tail: str) -> bool:
    """Whether the repetition filter, as it is by default, drops any text with this in it for a loop."""
    if tail[-LONGEST_BLANK:].isspace() and len(tail) >= LONGEST_BLANK:
        return True
    loop = longest_loop(number_tokens(tokens(tail)))
    return loop.copies >= FEWEST_COPIES and loop.tokens >= (
        _RULE.counting_tokens if loop.counting else _RULE.loop_tokens
    )
