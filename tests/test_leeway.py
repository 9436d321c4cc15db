"""Leeway against verdicts asked for one by one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attribution.leeway import LEVELS, Judge, leeways
from attribution.verdict import decide
from tests.simulated_scores import FEW, score_set

JUDGE = Judge.of(score_set(60, "c", 2.0), FEW)
NAMES = ["a", "b"]


def verdict(judge: Judge, distances: np.ndarray) -> tuple[str, str | None]:
    """Code and candidate, as `decide` has them."""
    evidence = judge.fitted.evaluate(distances.tolist(), judge.own, judge.decision.mu)
    found = decide(evidence, NAMES, judge.decision, "it is real")
    return found.code, found.candidate


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*[st.floats(0.001, 1.0)] * 2), min_size=2, max_size=30))
def test_many_verdicts_at_once_are_those_one_by_one(rows):
    distances = np.array(rows)
    numbers = JUDGE.verdicts(distances).tolist()
    verdicts = [verdict(JUDGE, row) for row in distances]
    assert len(set(zip(numbers, verdicts, strict=True))) == len(set(numbers)) == len(set(verdicts))


def test_every_kind_of_verdict_occurs_there():
    grid = np.stack(np.meshgrid(*[np.geomspace(0.005, 1, 40)] * 2), axis=-1).reshape(-1, 2)
    pairs = {(n, verdict(JUDGE, row)) for n, row in zip(JUDGE.verdicts(grid).tolist(), grid, strict=True)}
    assert len({code for _, (code, _) in pairs}) == 5 and len(pairs) >= 6
    assert len({n for n, _ in pairs}) == len({v for _, v in pairs}) == len(pairs)


def test_own_distances_that_equal_an_image_s_count_as_in_the_p_value():
    (own, _) = JUDGE.own
    rows = np.stack([own, np.full(len(own), 0.3)], axis=1)
    pairs = {(n, verdict(JUDGE, row)) for n, row in zip(JUDGE.verdicts(rows).tolist(), rows, strict=True)}
    assert len({n for n, _ in pairs}) == len({v for _, v in pairs}) == len(pairs)


@pytest.mark.parametrize("seed", range(3))
def test_leeway_is_how_far_the_distances_move_without_another_verdict(seed):
    rng = np.random.default_rng(seed)
    spread = np.array([0.1, 0.25])
    rows = np.exp(rng.uniform(np.log(0.01), 0, (40, 2)))
    found = leeways(JUDGE, rows, spread.tolist())
    moves = np.array([[a, b] for a in (-1, 0, 1) for b in (-1, 0, 1)])  # two candidates: these are all there are
    for row, leeway in zip(rows, found, strict=True):
        steady = [
            all(verdict(JUDGE, row * np.exp(level * spread * move)) == verdict(JUDGE, row) for move in moves)
            for level in LEVELS
        ]
        assert leeway == max((level for i, level in enumerate(LEVELS) if all(steady[: i + 1])), default=0.0)
    assert np.mean(found > 0) > 0 and len(set(found)) > 3
    np.testing.assert_array_equal(leeways(JUDGE, rows, spread.tolist(), 1.0), np.minimum(found, 1.0))
