"""Every error Recap raises on purpose.

RecapError
├── Refused                 exit 2: the plan, an option, the store or the engine does not fit
│   ├── UnknownPart         a name or setting that no table has
│   ├── PicturesOnly        videos, of an engine that is asked about pictures alone
│   ├── PlanMismatch        the output belongs to another plan
│   └── ModelChanged        an engine serves another model than the recipe's
├── OutOfService            exit 3: disk, store or engine is gone
├── CorruptState            exit 4: a record or manifest is damaged
├── MediaError              this sample cannot be decoded: reason + detail
├── SourceError             this shard cannot be read: reason + detail
└── EngineError             the engine did not caption this request; each is retryable or not
    ├── EngineUnavailable   retryable: nobody answers; it may have died of what it had in flight
    ├── EngineBusy          retryable: asked to come later; no attempt is used up
    ├── EngineBroke         retryable: it failed on this request, perhaps because of it
    ├── EngineTimeout       retryable: the deadline passed
    ├── BadEngineResponse   retryable: an answer that is none
    └── RequestRefused      not retryable: the engine refuses this very request
"""

from __future__ import annotations

from typing import ClassVar


class RecapError(Exception):
    """Base of all errors raised on purpose."""

    exit_code: ClassVar[int] = 3


class Refused(RecapError):
    """What was asked does not fit; nothing was touched."""

    exit_code = 2


class UnknownPart(Refused):
    """No table has this name, or the part has no such setting."""


class PicturesOnly(Refused):
    """The engine, as it is asked, takes no videos."""


class PlanMismatch(Refused):
    """The output folder holds a run with another plan; differences: (field, there, asked) rows."""

    def __init__(self, differences: list[tuple[str, object, object]]) -> None:
        self.differences = differences
        rows = "\n".join(f"  {name}: there {there!r}, asked {asked!r}" for name, there, asked in differences)
        super().__init__(f"plan_mismatch: the output belongs to another plan:\n{rows}")


class ModelChanged(Refused):
    """An engine serves another model, or another revision of it, than the recipe's."""


class OutOfService(RecapError):
    """Disk, store or engine is gone; the same command resumes once it is back."""

    exit_code = 3


class CorruptState(RecapError):
    """A file that only we write does not say what we wrote."""

    exit_code = 4


class ReasonedError(RecapError):
    """An error that becomes a row: a reason from the closed list and a detail in our own words."""

    def __init__(self, reason: str, detail: str = "") -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"{reason}: {detail}" if detail else reason)


class MediaError(ReasonedError):
    """This sample's media cannot be turned into a bounded picture."""


class SourceError(ReasonedError):
    """This shard cannot be read as planned."""


class EngineError(ReasonedError):
    """The engine did not caption this request."""

    retryable: ClassVar[bool] = True
    default_reason: ClassVar[str] = "engine_error"

    def __init__(self, detail: str = "", *, reason: str = "") -> None:
        super().__init__(reason or self.default_reason, detail)


class EngineUnavailable(EngineError):
    """Nobody answers; no sample is at fault."""

    default_reason = "engine_unavailable"


class EngineBusy(EngineError):
    """A full engine asks to come again; retry_after: seconds that it named, None where it did not."""

    default_reason = "engine_unavailable"

    def __init__(self, detail: str = "", *, retry_after: float | None = None) -> None:
        self.retry_after = retry_after
        super().__init__(detail)


class EngineBroke(EngineError):
    """The engine failed while it worked on this request (an HTTP 500): perhaps its own fault, perhaps the request's."""

    default_reason = "engine_error"


class EngineTimeout(EngineError):
    """The whole deadline passed without a whole answer."""

    default_reason = "engine_timeout"


class BadEngineResponse(EngineError):
    """An answer came that is not one."""

    default_reason = "bad_engine_response"


class RequestRefused(EngineError):
    """The engine refuses this request itself; asking again would change nothing."""

    retryable = False
    default_reason = "engine_refused"
