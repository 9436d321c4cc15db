import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from attribution.threshold import (
    auc,
    benjamini_hochberg,
    clopper_pearson_upper,
    conformal_p_value,
    equal_error_rate,
    reals_to_reject,
    smallest_n,
    tpr_at_fpr,
    umbrella_order,
)

SMALLEST_N = {0.05: (59, 93, 124, 208), 0.01: (299, 473, 628, 1_049), 0.001: (2_995, 4_742, 6_294, 10_511)}
SCORES = st.lists(st.integers(-5, 5), min_size=1, max_size=12)


@pytest.mark.parametrize("alpha", SMALLEST_N)
def test_the_smallest_n_of_every_order(alpha):
    for m, n in zip((1, 2, 3, 6), SMALLEST_N[alpha], strict=True):
        assert smallest_n(m, alpha, 0.05) == n
        assert umbrella_order(n, alpha, 0.05) == m
        if m > 1:
            assert umbrella_order(n - 1, alpha, 0.05) == m - 1


def test_too_few_reals_name_the_smallest_number_that_will_do():
    for n in (0, 58):
        with pytest.raises(ValueError, match=rf"found {n} real sources.*at least 59 for alpha 0\.05"):
            umbrella_order(n, 0.05, 0.05)


@given(st.integers(1, 400), st.floats(0.005, 0.3), st.floats(0.01, 0.3))
def test_order_is_the_largest_that_keeps_the_promise(n, alpha, delta):
    def risk(m: int) -> float:  # P(Binomial(n, alpha) < m)
        return sum(math.comb(n, j) * alpha**j * (1 - alpha) ** (n - j) for j in range(m))

    if risk(1) > delta:
        with pytest.raises(ValueError, match=str(smallest_n(1, alpha, delta))):
            umbrella_order(n, alpha, delta)
    else:
        m = umbrella_order(n, alpha, delta)
        assert risk(m) <= delta * (1 + 1e-9) and risk(m + 1) > delta * (1 - 1e-9)


def test_flagging_above_the_mth_largest_keeps_its_rate_and_the_naive_quantile_does_not():
    rng = np.random.default_rng(0)
    n, alpha, delta = 500, 0.01, 0.05
    scores = np.sort(rng.random((4_000, n)), axis=1)  # uniform: the false-positive rate above t is 1 - t
    exceeded = np.mean(1 - scores[:, n - umbrella_order(n, alpha, delta)] > alpha)
    naive = np.mean(1 - scores[:, n - 5] > alpha)  # the fifth of 500: 1 % of the calibration is at or above it
    assert exceeded <= delta + 3 * math.sqrt(delta / 4_000)
    assert naive == pytest.approx(0.44, abs=0.03)


def test_upper_bound_of_a_rate():
    assert clopper_pearson_upper(0, 60) == pytest.approx(1 - 0.05 ** (1 / 60))
    assert clopper_pearson_upper(60, 60) == 1
    # by definition: at the bound, so few positives have a probability of 5 %
    bound = clopper_pearson_upper(3, 40)
    assert sum(math.comb(40, j) * bound**j * (1 - bound) ** (40 - j) for j in range(4)) == pytest.approx(0.05)


def test_conformal_p_value_counts_ties_against_the_image():
    assert conformal_p_value(5, [1, 2, 3]) == 1 / 4
    assert conformal_p_value(2, [1, 2, 3]) == 3 / 4
    assert conformal_p_value(0, [1, 2, 3]) == 1


def test_conformal_p_values_of_the_population_are_valid():
    scores = np.random.default_rng(1).normal(size=(4_000, 20))
    p = [conformal_p_value(row[0], row[1:]) for row in scores]
    for level in (0.05, 0.2, 0.5):
        assert np.mean(np.array(p) <= level) == pytest.approx(level, abs=0.025)


@given(SCORES, SCORES)
def test_auc_is_the_share_of_pairs_in_order(positive, negative):
    wins = sum((p > n) + (p == n) / 2 for p in positive for n in negative)
    assert auc(positive, negative) == pytest.approx(wins / (len(positive) * len(negative)))


def test_tpr_at_fpr():
    negative = np.arange(100)
    assert tpr_at_fpr([98.5, 97.5, 150, 10], negative, 0.01) == 0.5  # one of 100 may be flagged
    assert tpr_at_fpr([98.5, 97.5, 150, 10], negative, 0.05) == 0.75
    assert tpr_at_fpr([150], negative[:99], 0.01) is None
    assert tpr_at_fpr([150], negative[:19], 0.05) is None


def test_equal_error_rate():
    rng = np.random.default_rng(2)
    found = equal_error_rate(rng.normal(2, 1, 20_000), rng.normal(0, 1, 20_000))
    assert found == pytest.approx(norm.cdf(-1), abs=0.005)
    assert equal_error_rate([3, 4], [1, 2]) == 0
    assert equal_error_rate([1, 2], [3, 4]) == 1
    assert equal_error_rate([1, 1], [1, 1]) == 0.5


@given(SCORES, SCORES)
def test_equal_error_rate_of_swapped_scores(positive, negative):
    swapped = equal_error_rate([-x for x in negative], [-x for x in positive])
    assert equal_error_rate(positive, negative) == pytest.approx(swapped, abs=1e-12)


def test_benjamini_hochberg():
    # Benjamini & Hochberg 1995, the example of §3.2: four of fifteen are rejected at 5 %
    p = [
        0.0001,
        0.0004,
        0.0019,
        0.0095,
        0.0201,
        0.0278,
        0.0298,
        0.0344,
        0.0459,
        0.3240,
        0.4262,
        0.5719,
        0.6528,
        0.7590,
        1.0,
    ]
    assert benjamini_hochberg(p, 0.05) == [True] * 4 + [False] * 11
    assert benjamini_hochberg(p[::-1], 0.05) == [False] * 11 + [True] * 4
    assert benjamini_hochberg([], 0.05) == []


def test_how_many_reals_a_rejection_needs():
    assert reals_to_reject(1_000, 0.05) == 19_999
    smallest_p = [1 / (19_999 + 1)] + [1.0] * 999
    assert sum(benjamini_hochberg(smallest_p, 0.05)) == 1
    smallest_p[0] = 1 / 19_999
    assert sum(benjamini_hochberg(smallest_p, 0.05)) == 0
