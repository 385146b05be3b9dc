"""What a training tells of its speed is of its steps, and of nothing that lies between them."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="needs the `train` extra")

from trainer.meter import Meter


def told_of(meter: Meter) -> dict[str, float]:
    """Of one step: a second of waiting, three of work."""
    meter.begin()
    meter.fed()
    meter.step(loss=2.0, norm=1.0, tokens=400, samples=8, flops=200.0)
    return meter.means


def test_a_step_s_speed_is_of_the_step_and_not_of_what_was_saved_before_it() -> None:
    # Begin, fed, end; then a minute of saving; then the same again.
    ticks = iter([10.0, 11.0, 14.0, 74.0, 75.0, 78.0])
    meter = Meter(flops_per_second=100.0, clock=lambda: next(ticks))
    for _ in range(2):
        told = told_of(meter)
        assert told["tokens_per_second"] == pytest.approx(100) and told["samples_per_second"] == pytest.approx(2)
        assert told["data_wait"] == pytest.approx(0.25) and told["mfu"] == pytest.approx(0.5)


def test_an_mfu_of_another_device_is_not_told_on() -> None:
    ticks = iter([10.0, 11.0, 14.0])
    meter = Meter(flops_per_second=None, clock=lambda: next(ticks))
    meter.resume({"mfu": 0.4, "loss": 2.0, "tokens_per_second": 100.0})
    assert "mfu" not in told_of(meter)
