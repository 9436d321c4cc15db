"""Distances of features against closed forms and brute force."""

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st

from training import distances
from training.distances import frechet_distance, inception_score, kernel_distance, precision, recall


def whitened(n: int, d: int, seed: int) -> np.ndarray:
    """A sample whose mean is exactly 0 and whose covariance is exactly the identity."""
    x = np.random.default_rng(seed).normal(size=(n, d))
    x -= x.mean(axis=0)
    return x @ np.linalg.inv(np.linalg.cholesky(np.cov(x, rowvar=False))).T


# ---------------------------------------------------------------- Fréchet distance


@given(
    st.lists(
        st.tuples(st.floats(0.125, 4), st.floats(0.125, 4), st.floats(-3, 3), st.floats(-3, 3)), min_size=2, max_size=5
    ),
    st.integers(0, 1000),
)
def test_independent_normals_have_the_closed_form(axes, seed):
    """W2^2 of normals with commuting covariances: sum of (mu_a - mu_b)^2 + (sigma_a - sigma_b)^2."""
    sigma_a, sigma_b, mu_a, mu_b = np.array(axes).T
    rotation = scipy.linalg.qr(np.random.default_rng(seed).normal(size=(len(axes), len(axes))))[0]
    a = (whitened(30, len(axes), seed) * sigma_a + mu_a) @ rotation
    b = (whitened(40, len(axes), seed + 1) * sigma_b + mu_b) @ rotation
    expected = np.square(mu_a - mu_b).sum() + np.square(sigma_a - sigma_b).sum()
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(st.integers(0, 1000))
def test_covariances_that_do_not_commute(seed):
    rng = np.random.default_rng(seed)
    a, b = (rng.normal(size=(20, 4)) @ rng.normal(size=(4, 4)) + rng.normal(size=4) for _ in "ab")
    covariance_a, covariance_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    trace = np.trace(covariance_a + covariance_b - 2 * scipy.linalg.sqrtm(covariance_a @ covariance_b).real)
    expected = np.square(a.mean(axis=0) - b.mean(axis=0)).sum() + trace
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6, abs=1e-6)
    assert frechet_distance(b, a) == pytest.approx(frechet_distance(a, b), rel=1e-6, abs=1e-6)


def test_equal_samples_have_distance_zero_even_with_fewer_images_than_dimensions():
    a = np.random.default_rng(0).normal(size=(5, 12)).astype(np.float32)
    assert frechet_distance(a, a[::-1]) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(a, a + 1) == pytest.approx(12, rel=1e-5)


# ---------------------------------------------------------------- precision and recall


def brute_force(manifold: np.ndarray, points: np.ndarray, k: int) -> float:
    def distance(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.sqrt(np.square(a - b).sum()))

    inside = 0
    for point in points:
        for i, centre in enumerate(manifold):
            others = sorted(distance(centre, other) for j, other in enumerate(manifold) if j != i)
            if distance(point, centre) <= others[k - 1]:
                inside += 1
                break
    return inside / len(points)


@given(
    n=st.integers(4, 12),
    m=st.integers(4, 12),
    k=st.integers(1, 3),
    shift=st.floats(-2, 2),
    offset=st.sampled_from([0.0, 1e4]),
    seed=st.integers(0, 1000),
    block=st.integers(1, 13),
)
def test_manifolds_are_those_of_brute_force(n, m, k, shift, offset, seed, block):
    rng = np.random.default_rng(seed)
    real, fake = rng.normal(size=(n, 2)) + offset, rng.normal(size=(m, 2)) + shift + offset
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distances, "BLOCK", block)
        assert precision(real, fake, k) == brute_force(real, fake, k)
        assert recall(real, fake, k) == brute_force(fake, real, k)


def test_a_generator_of_one_good_image_is_precise_and_recalls_little():
    real = np.random.default_rng(0).normal(size=(200, 3))
    fake = real[:1] + 0.001 * np.random.default_rng(1).normal(size=(50, 3))
    assert precision(real, fake) == 1
    assert recall(real, fake) < 0.02


# ---------------------------------------------------------------- kernel distance


def polynomial_mmd(a: np.ndarray, b: np.ndarray) -> float:
    """Squared MMD with (x.y / D + 1)^3, unbiased, pair by pair (Gretton et al. 2012, eq. 3)."""

    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return (float(np.dot(x, y)) / len(x) + 1) ** 3

    within_a = [kernel(x, y) for i, x in enumerate(a) for j, y in enumerate(a) if i != j]
    within_b = [kernel(x, y) for i, x in enumerate(b) for j, y in enumerate(b) if i != j]
    between = [kernel(x, y) for x in a for y in b]
    return float(np.mean(within_a) + np.mean(within_b) - 2 * np.mean(between))


def test_subsets_of_equal_rows_have_the_value_of_the_sum_written_out():
    """Every subset of half a set of copies is the same set, so that the mean is one figure and its deviation 0."""
    x, y = np.random.default_rng(0).normal(size=(2, 5))
    a, b = np.tile(x, (12, 1)), np.tile(y, (8, 1))
    mean, deviation = kernel_distance(a, b, seed=0)
    assert mean == pytest.approx(polynomial_mmd(a[:4], b[:4]), rel=1e-9)
    assert deviation == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("n", [7, 40])
def test_the_mean_over_subsets_is_near_that_of_all_images(n):
    rng = np.random.default_rng(n)
    a, b = rng.normal(size=(n, 4)), rng.normal(size=(n + 3, 4)) + 1
    mean, deviation = kernel_distance(a, b, seed=0)
    assert abs(mean - polynomial_mmd(a, b)) < 4 * deviation / np.sqrt(distances.SUBSETS)
    assert deviation > 0


def test_samples_of_one_distribution_have_kernel_distance_zero_on_average():
    rng = np.random.default_rng(0)
    means = [kernel_distance(rng.normal(size=(40, 3)), rng.normal(size=(40, 3)), seed)[0] for seed in range(30)]
    assert min(means) < 0 < max(means)
    assert abs(np.mean(means)) < 4 * np.std(means) / np.sqrt(len(means))
    far, _ = kernel_distance(rng.normal(size=(40, 3)), rng.normal(size=(40, 3)) + 1, 0)
    assert far > 10 * np.std(means)


def test_subsets_follow_the_seed():
    a, b = np.random.default_rng(0).normal(size=(2, 20, 3))
    assert kernel_distance(a, b, 1) == kernel_distance(a, b, 1) != kernel_distance(a, b, 2)


# ---------------------------------------------------------------- Inception score


def test_alike_images_score_one_and_certain_ones_the_number_of_classes():
    alike = np.tile(np.random.default_rng(0).normal(size=10), (50, 1))
    assert inception_score(alike, 0) == pytest.approx((1, 0), abs=1e-9)
    certain = 100 * np.eye(5)[np.arange(10000) % 5]
    mean, _ = inception_score(certain, 0)
    assert mean == pytest.approx(5, rel=0.02) and mean <= 5 + 1e-9


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (np.zeros((1, 3)), np.zeros((5, 3)), r"^features_a: found shape \(1, 3\), expected \[N, D\] of at least 2"),
        (np.zeros((5, 3)), np.zeros(5), r"^features_b: found shape \(5,\)"),
        (np.zeros((5, 3)), np.zeros((5, 2)), "^features: found dimensions 3 and 2"),
        (np.zeros((5, 3)), np.full((5, 3), np.nan), "^features_b: found values that are not finite"),
    ],
)
def test_features_of_another_form_are_refused(a, b, message):
    with pytest.raises(ValueError, match=message):
        frechet_distance(a, b)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (np.zeros((3, 3)), np.zeros((5, 3)), r"^features_a: found shape \(3, 3\), expected \[N, D\] of at least 4"),
        (np.zeros((5, 3)), np.zeros((5, 2)), "^features: found dimensions 3 and 2"),
        (np.zeros((5, 3)), np.full((5, 3), np.inf), "^features_b: found values that are not finite"),
    ],
)
def test_features_without_a_kernel_distance_are_refused(a, b, message):
    with pytest.raises(ValueError, match=message):
        kernel_distance(a, b, 0)


def test_too_few_logits_are_refused():
    with pytest.raises(ValueError, match=r"^logits: found shape \(9, 2\), expected .* at least 10"):
        inception_score(np.zeros((9, 2)), 0)


def test_too_few_neighbours_are_refused():
    with pytest.raises(ValueError, match=r"^features: found shape \(3, 2\), expected .* at least 4"):
        precision(np.zeros((3, 2)), np.zeros((9, 2)), k=3)
    with pytest.raises(ValueError, match=r"^features: found shape \(3, 2\), expected .* at least 4"):
        recall(np.zeros((9, 2)), np.zeros((3, 2)), k=3)
    with pytest.raises(ValueError, match=r"^k: found 0, expected at least 1"):
        recall(np.zeros((9, 2)), np.zeros((9, 2)), k=0)
