"""The benchmarks' arithmetic: what is a step's time, and what a trainer's images per second are."""

import pytest

from tests.benchmarks import measuring
from tests.benchmarks.measuring import PeakRow, StepClock, faster, highest, peak_table
from tests.benchmarks.projection import steps_for
from tests.benchmarks.training import Case, Row, config_of


def test_the_warm_up_does_not_count(monkeypatch):
    now = iter([10.0, 20.0, 21.0, 23.0, 24.0])
    monkeypatch.setattr(measuring.time, "perf_counter", lambda: next(now))
    clock = StepClock(warmup=2)
    for step in range(5):
        clock(step)
    assert clock.steady().seconds == 1  # the median of 1, 2 and 1


def test_the_peak_is_the_best_of_all_shapes_passes_and_measurements():
    first, second = PeakRow(512, 16, "fp32", 3e9, 1e9), PeakRow(512, 16, "fp32", 2e9, 4e9)
    rows = faster([first, PeakRow(512, 16, "bf16", 9e9, 9e9)], [second, PeakRow(512, 16, "bf16", 8e9, 8e9)])
    assert highest(rows, "fp32") == 4e9
    assert "| 512 channels, 16x16 | fp32 | 3 | 4 |" in peak_table(rows)


@pytest.mark.parametrize(("batch", "steps"), [(1, 20), (4, 5), (10**6, 1)])
def test_a_row_takes_about_the_time_that_it_is_given(batch, steps):
    assert steps_for(flops=10**9, batch=batch, rate=20e9, seconds=2) == steps


def test_regularisers_count_as_often_as_they_run():
    case = Case("small-64", "bf16", baseline=False)
    config = config_of(case)
    row = Row(case, step=1.0, r1=config.r1_interval, path_length=2 * config.path_length_interval, memory=0, account={})
    assert row.rate == pytest.approx(config.batch / 4)
