import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from attribution.likelihood import (
    LogisticCalibrator,
    bootstrap_intervals,
    cllr,
    cllr_cal,
    cllr_min,
    cross_fit,
    elub,
)
from tests.simulated_scores import score_set

RATIOS = st.lists(st.integers(-60, 60).map(lambda x: x / 10), min_size=1, max_size=15)


def gaussian_distances(n: int, gap: float = 0.06, sigma: float = 0.03, seed: int = 0):
    """Distances of one candidate, generated N(0.3 - gap, sigma), real N(0.3, sigma), and their labels."""
    rng = np.random.default_rng(seed)
    d = np.concatenate([rng.normal(0.3, sigma, n), rng.normal(0.3 - gap, sigma, n)])
    return d[:, None], np.repeat([0, 1], n)


def true_log10_lr(d, gap: float = 0.06, sigma: float = 0.03):
    """Of two normal densities of equal variance."""
    return ((d - 0.3) ** 2 - (d - 0.3 + gap) ** 2) / (2 * sigma**2) / math.log(10)


def test_calibrator_recovers_the_likelihood_ratio_of_known_densities():
    calibrator = LogisticCalibrator.fit(*gaussian_distances(20_000))
    d = np.linspace(0.15, 0.4, 20)
    assert calibrator.converged
    np.testing.assert_allclose(calibrator.log10_lr(d[:, None])[:, 0], true_log10_lr(d), atol=0.1)


def test_unequal_numbers_do_not_shift_the_ratios():
    distances, labels = gaussian_distances(20_000)
    kept = np.flatnonzero((labels == 0) | (np.arange(len(labels)) % 10 == 0))
    d = np.linspace(0.2, 0.35, 10)[:, None]
    found = LogisticCalibrator.fit(distances[kept], labels[kept]).log10_lr(d)[:, 0]
    np.testing.assert_allclose(found, true_log10_lr(d[:, 0]), atol=0.15)


def test_two_candidates_recover_the_ratios_against_the_alternative_and_each_other():
    rng = np.random.default_rng(1)
    n, sigma, gap = 20_000, 0.03, 0.05
    means = np.array([[0.3, 0.3], [0.3 - gap, 0.3], [0.3, 0.3 - gap]])
    labels = np.repeat(np.arange(3), n)
    calibrator = LogisticCalibrator.fit(rng.normal(means[labels], sigma), labels)
    d = rng.uniform(0.2, 0.35, (20, 2))
    log_density = -((d[:, None] - means) ** 2).sum(axis=2) / (2 * sigma**2) / math.log(10)
    np.testing.assert_allclose(calibrator.log10_lr(d), log_density[:, 1:] - log_density[:, :1], atol=0.12)
    pairwise = log_density[:, 1] - log_density[:, 2]
    np.testing.assert_allclose(calibrator.log10_pairwise(d, 0, 1), pairwise, atol=0.15)
    np.testing.assert_allclose(calibrator.log10_pairwise(d, 1, 0), -calibrator.log10_pairwise(d, 0, 1))


def test_a_smaller_distance_is_never_weaker_evidence():
    calibrator = LogisticCalibrator.fit(*gaussian_distances(50))
    assert np.all(np.diff(calibrator.log10_lr(np.linspace(0, 1, 50)[:, None])[:, 0]) < 0)


@pytest.mark.parametrize("candidates", [1, 3])
def test_separated_classes_give_finite_ratios_with_the_right_sign(candidates):
    scores = score_set(30, "c", separation=8.0, candidates=candidates)
    ratios = LogisticCalibrator.fit(scores.distances, scores.labels).log10_lr(scores.distances)
    assert np.all(np.isfinite(ratios))
    assert np.all(ratios[scores.labels == 0] < 0)
    for k in range(candidates):
        assert np.all(ratios[scores.labels == k + 1, k] > 0)


def test_no_penalty_is_felt_on_the_scale_of_lpips():
    distances, labels = gaussian_distances(100, gap=0.12)
    ratios = LogisticCalibrator.fit(distances, labels).log10_lr(distances)[:, 0]
    penalised = LogisticRegression().fit(-distances, labels).decision_function(-distances) / math.log(10)
    assert cllr(ratios[labels == 1], ratios[labels == 0]) < 0.15
    assert cllr(penalised[labels == 1], penalised[labels == 0]) > 0.3  # scikit-learn's defaults, on the raw scores


def test_the_unit_of_distance_does_not_matter():
    distances, labels = gaussian_distances(60)
    one, thousand = (LogisticCalibrator.fit(distances * f, labels).log10_lr(distances * f) for f in (1, 1000))
    np.testing.assert_allclose(one, thousand, rtol=1e-6)


def test_equal_distances_say_nothing():
    calibrator = LogisticCalibrator.fit(np.full((20, 1), 0.3), np.repeat([0, 1], 10))
    assert calibrator.log10_lr([[0.3], [0.1]]) == pytest.approx(0, abs=1e-6)


def test_order_of_candidates_only_permutes():
    scores = score_set(60, "c", separation=0.5, candidates=3)
    order = [2, 0, 1]
    labels = np.array([0, *(1 + order.index(k) for k in range(3))])[scores.labels]
    straight = LogisticCalibrator.fit(scores.distances, scores.labels).log10_lr(scores.distances)
    permuted = LogisticCalibrator.fit(scores.distances[:, order], labels).log10_lr(scores.distances[:, order])
    np.testing.assert_allclose(permuted, straight[:, order], atol=1e-5)


def test_a_class_without_images_is_refused():
    with pytest.raises(ValueError, match="class 2"):
        LogisticCalibrator.fit(np.ones((4, 2)), [0, 0, 1, 1])


def test_json_round_trip_is_exact():
    scores = score_set(20, "c", separation=0.5)
    calibrator = LogisticCalibrator.fit(scores.distances, scores.labels)
    assert LogisticCalibrator.from_json(json.loads(json.dumps(calibrator.to_json()))) == calibrator
    for broken in ({"mean": [0.1]}, {"surprise": 1}):
        with pytest.raises(ValueError, match="logistic"):
            LogisticCalibrator.from_json(calibrator.to_json() | broken)


def test_out_of_fold_ratios_do_not_know_the_answer():
    scores = score_set(40, "c", separation=0.0, candidates=1)
    ratios = cross_fit(scores)[:, 0]
    of = [ratios[scores.labels == label] for label in (1, 0)]
    within = LogisticCalibrator.fit(scores.distances, scores.labels).log10_lr(scores.distances)[:, 0]
    assert cllr(*of) >= 1 > cllr(within[scores.labels == 1], within[scores.labels == 0])


def test_a_unit_is_judged_without_its_source():
    scores = score_set(25, "c", separation=1.0, candidates=1)
    moved = replace(scores.real[3], distances=(0.0001,))
    changed = replace(scores, real=(*scores.real[:3], moved, *scores.real[4:]))
    before, after = cross_fit(scores), cross_fit(changed)
    same = np.isclose(before[:, 0], after[:, 0], rtol=1e-9, atol=1e-9)
    assert 5 <= same.sum() <= 15  # only its own fold was judged without it: a fifth of 50, but not itself
    assert not same[3]


def test_folds_are_seeded_and_do_not_depend_on_the_order_of_units():
    scores = score_set(20, "c", separation=0.5)
    reversed_set = replace(scores, real=scores.real[::-1], generated=tuple(g[::-1] for g in scores.generated))
    by_source = dict(zip((u.source for u in scores.units), cross_fit(scores), strict=True))
    for unit, ratio in zip(reversed_set.units, cross_fit(reversed_set), strict=True):
        np.testing.assert_allclose(ratio, by_source[unit.source], atol=1e-5)
    assert not np.allclose(cross_fit(scores), cross_fit(scores, seed=1))


@pytest.mark.parametrize("n", [10, 60, 100, 10_000])
def test_separated_units_cap_the_ratio_at_n_plus_one(n):
    assert elub(np.full(n, 40.0), np.full(n, -40.0)) == pytest.approx((-math.log10(n + 1), math.log10(n + 1)))


@pytest.mark.parametrize(("misleading", "expected"), [(0, 2.0), (1, 1.7), (2, 1.5)])
def test_misleading_units_lower_the_bound(misleading, expected):
    h2 = np.full(100, -40.0)
    h2[:misleading] = 40.0
    assert elub(np.full(100, 40.0), h2)[1] == pytest.approx(expected, abs=0.05)


def cost(t: float, h1, h2) -> float:
    """Vergeer et al. 2016: cost of deciding at the threshold t >= 1, one misleading unit added to H_2."""
    return np.mean(h1 < t) + t * (np.sum(h2 >= t) + 1) / (len(h2) + 1)


@given(RATIOS, RATIOS)
def test_the_bound_is_where_the_ratios_stop_being_useful(h1, h2):
    low, high = elub(h1, h2)
    lr1, lr2 = 10 ** np.array(h1), 10 ** np.array(h2)
    assert low <= 0 <= high <= math.log10(len(h2) + 1) + 1e-12
    if high > 0:
        assert all(cost(10**x, lr1, lr2) <= 1 for x in np.linspace(0.001, 0.999, 40) * high)
    assert cost(10 ** (high + 1e-7), lr1, lr2) > 1 - 1e-6


@given(RATIOS, RATIOS)
def test_bounds_mirror_when_the_propositions_are_swapped(h1, h2):
    low, high = elub(h1, h2)
    assert elub([-x for x in h2], [-x for x in h1]) == pytest.approx((-high, -low))


def test_cllr_of_known_ratios():
    assert cllr([0.0, 0.0], [0.0]) == 1
    assert cllr([1.0], [0.0]) == pytest.approx((math.log2(1 + 1 / 10) + 1) / 2)
    assert cllr([300.0, 400.0], [-400.0]) == pytest.approx(0)  # ratios that overflow as numbers
    assert cllr([-1000.0], [0.0]) > 1000


def test_cllr_min():
    assert cllr_min([1, 2, 3], [-1, 0]) == 0
    assert cllr_min([5, 5], [5, 5, 5]) == pytest.approx(1)
    assert cllr_min([1, 2], [3, 4]) == pytest.approx(1)  # PAV can only pool what is in the wrong order
    # blocks by hand: {0}, {1, 1, 1} with LR (2/3) / (1/2) * ..., {2}
    p, n1, n2 = 2 / 3, 3, 2
    pooled = p / (1 - p) * n2 / n1
    by_hand = (2 / n1 * math.log2(1 + 1 / pooled) + 1 / n2 * math.log2(1 + pooled)) / 2
    assert cllr_min([1, 1, 2], [0, 1]) == pytest.approx(by_hand)


@given(RATIOS, RATIOS)
def test_recalibration_helps_and_only_the_order_counts_for_it(h1, h2):
    assert cllr_cal(h1, h2) >= -1e-9
    assert -1e-12 <= cllr_min(h1, h2) <= 1 + 1e-9
    stretched = [[math.atan(x) * 3 + x for x in h] for h in (h1, h2)]
    if len(set(stretched[0] + stretched[1])) == len(set(h1 + h2)):
        assert cllr_min(*stretched) == pytest.approx(cllr_min(h1, h2))


def mean_gap(h1, h2):
    return [h1.mean() - h2.mean()]


def test_bootstrap_resamples_sources_not_images():
    rng = np.random.default_rng(3)
    values = np.repeat(rng.normal(size=20), 10), np.repeat(rng.normal(size=20), 10)
    sources = [str(i // 10) for i in range(200)]
    singles = [str(i) for i in range(200)]
    (low, high), (narrow_low, narrow_high) = (
        bootstrap_intervals(mean_gap, values, (s, s), samples=400)[0] for s in (sources, singles)
    )
    assert low < values[0].mean() - values[1].mean() < high
    assert (high - low) / (narrow_high - narrow_low) == pytest.approx(math.sqrt(10), rel=0.25)


def test_bootstrap_is_seeded():
    values = np.arange(30.0), np.arange(20.0)
    names = [str(i) for i in range(30)], [str(i) for i in range(20)]
    first, again, other = (bootstrap_intervals(mean_gap, values, names, 50, seed) for seed in (0, 0, 1))
    assert first == again != other
