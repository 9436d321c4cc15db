"""Generator metrics against closed forms and brute force."""

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st

from generator.networks import Generator, GeneratorConfig
from training import metrics
from training.metrics import evaluate_generator, frechet_distance, precision, recall


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
        patch.setattr(metrics, "BLOCK", block)
        assert precision(real, fake, k) == brute_force(real, fake, k)
        assert recall(real, fake, k) == brute_force(fake, real, k)


def test_a_generator_of_one_good_image_is_precise_and_recalls_little():
    real = np.random.default_rng(0).normal(size=(200, 3))
    fake = real[:1] + 0.001 * np.random.default_rng(1).normal(size=(50, 3))
    assert precision(real, fake) == 1
    assert recall(real, fake) < 0.02


# ---------------------------------------------------------------- generators


CONFIG = GeneratorConfig(resolution=8, z_dim=4, w_dim=4, mapping_layers=1, channel_base=16, channel_max=2)


def channel_means(images: np.ndarray) -> np.ndarray:
    """Features for the tests: the mean of each channel's left and right half."""
    assert images.dtype == np.uint8
    halves = np.concatenate([images[:, :, :4].mean(axis=(1, 2)), images[:, :, 4:].mean(axis=(1, 2))], axis=1)
    return halves.astype(np.float32)


def test_evaluation_follows_the_seed_and_keeps_the_order_of_the_metrics():
    G = Generator(CONFIG).eval()
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)

    def evaluate(seed: int) -> dict[str, float]:
        return evaluate_generator(G, images, ["recall", "fd_vgg16"], n_generated=20, seed=seed, features=channel_means)

    figures = evaluate(0)
    assert list(figures) == ["recall", "fd_vgg16"]
    assert figures == evaluate(0)
    assert figures["fd_vgg16"] != evaluate(1)["fd_vgg16"]


def test_a_generators_own_images_are_close_to_it():
    G = Generator(CONFIG).eval()
    own: list[np.ndarray] = []

    def spy(images: np.ndarray) -> np.ndarray:
        own.append(images)
        return channel_means(images)

    strangers = np.random.default_rng(0).integers(0, 256, (64, 8, 8, 3), dtype=np.uint8)
    far = evaluate_generator(G, strangers, ["fd_vgg16"], 64, seed=0, features=spy)
    names = ["fd_vgg16", "precision", "recall"]
    near = evaluate_generator(G, own[1], names, 64, seed=1, features=channel_means)
    assert near["fd_vgg16"] < 0.1 * far["fd_vgg16"]
    assert near["precision"] > 0.7 and near["recall"] > 0.7
    assert evaluate_generator(G, own[1], names, 64, seed=0, features=channel_means) == pytest.approx(
        {"fd_vgg16": 0, "precision": 1, "recall": 1}, abs=1e-6
    )


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


def test_too_few_neighbours_are_refused():
    with pytest.raises(ValueError, match=r"^features: found shape \(3, 2\), expected .* at least 4"):
        precision(np.zeros((3, 2)), np.zeros((9, 2)), k=3)
    with pytest.raises(ValueError, match=r"^features: found shape \(3, 2\), expected .* at least 4"):
        recall(np.zeros((9, 2)), np.zeros((3, 2)), k=3)
    with pytest.raises(ValueError, match=r"^k: found 0, expected at least 1"):
        recall(np.zeros((9, 2)), np.zeros((9, 2)), k=0)


@pytest.mark.parametrize(
    ("images", "names", "n", "message"),
    [
        (np.zeros((9, 8, 8, 3), np.uint8), ["recall", "psnr"], 9, "^metrics: found psnr, expected some of fd_vgg16,"),
        (np.zeros((9, 8, 8, 3), np.uint8), [], 9, "^metrics: found none"),
        (np.zeros((9, 8, 16, 3), np.uint8), ["recall"], 9, r"^images: found shape .*expected \[N, 8, 8, 3\]"),
        (np.zeros((3, 8, 8, 3), np.uint8), ["recall"], 9, "^images: found 3 and 9 generated, expected at least 4"),
        (np.zeros((9, 8, 8, 3), np.uint8), ["recall"], 3, "^images: found 9 and 3 generated, expected at least 4"),
    ],
)
def test_impossible_evaluations_are_refused(images, names, n, message):
    with pytest.raises(ValueError, match=message):
        evaluate_generator(Generator(CONFIG), images, names, n, seed=0, features=channel_means)
