"""What captions cost: pure arithmetic over what the records say the engine did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """gpu_hour: of one GPU, in any currency, 0 for unknown. gpus: how many are paid for. budget: 0 for none."""

    gpu_hour: float = 0.0
    gpus: int = 0
    budget: float = 0.0

    def spent(self, seconds: float) -> float:
        """What so many seconds of all GPUs cost."""
        return self.gpu_hour * self.gpus * seconds / 3600

    def used_up(self, seconds: float) -> bool:
        """Whether the budget is gone after so many seconds."""
        return self.budget > 0 and self.spent(seconds) >= self.budget


FREE = Price()


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What an engine's work came to.

    accepted: captions kept. per_engine_second: of those, per second that a request was at the engine: requests overlap,
    so this is not the run's speed. tokens_per_caption: answered tokens by accepted caption, those of rejected ones
    included. asks_per_caption: questions by accepted caption.
    """

    accepted: int
    per_engine_second: float | None
    tokens_per_caption: float | None
    asks_per_caption: float | None

    def lines(self, price: Price, seconds: float) -> list[str]:
        """The account as it is shown. seconds: that the GPUs were held."""
        shown = [("accepted captions by engine-second", self.per_engine_second, "{:.2f}")]
        shown += [("tokens by accepted caption", self.tokens_per_caption, "{:.0f}")]
        shown += [("questions by accepted caption", self.asks_per_caption, "{:.2f}")]
        lines = [f"{name}: {form.format(value)}" for name, value, form in shown if value]
        if (spent := price.spent(seconds)) and self.accepted:
            lines.append(f"spent: {spent:,.2f}; a million accepted captions: {1e6 * spent / self.accepted:,.0f}")
        return lines


def account(counts: Mapping[str, int], spent: Mapping[str, int]) -> Account:
    """counts: samples by outcome. spent: as ledger.spent."""
    accepted, engine_seconds = counts.get("captioned", 0), spent.get("engine_ms", 0) / 1000

    def per(total: float, count: float) -> float | None:
        return total / count if count else None

    return Account(
        accepted=accepted,
        per_engine_second=per(accepted, engine_seconds),
        tokens_per_caption=per(spent.get("completion_tokens", 0), accepted),
        asks_per_caption=per(spent.get("asks", 0), accepted),
    )
