"""How close two sets of images are in the space of a feature network.

All figures use float64. features below are [N, D] arrays, one row an image.
"""

import numpy as np
import torch

SUBSETS, SUBSET_SIZE = 100, 1000  # of the kernel distance (Bińkowski et al. 2018)
SPLITS = 10  # of the Inception score (Salimans et al. 2016)
BLOCK = 1024  # rows of a distance matrix that are in memory at once


def frechet_distance(features_a: np.ndarray, features_b: np.ndarray) -> float:
    """|mu_a - mu_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)), normal distributions fitted to each (Heusel et al. 2017).

    With N below some ten times D the covariances are so badly estimated that the distance of two samples of the same
    distribution is far above 0 and falls with N: compare only figures of equal N, features and reference images.
    Raises ValueError for features of other shapes, of less than two images, or not finite.
    """
    a, b = _checked("features_a", features_a, 2), _checked("features_b", features_b, 2)
    _same_dimension(a, b)
    covariance_a, covariance_b = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b))
    # tr (C_a C_b)^(1/2) = tr (R C_b R)^(1/2) with R = C_a^(1/2): symmetric, so that its eigenvalues are real
    root = _symmetric_root(covariance_a)
    eigenvalues = np.linalg.eigvalsh(root @ covariance_b @ root)
    overlap = np.sqrt(eigenvalues.clip(min=0)).sum()
    means = np.square(a.mean(axis=0) - b.mean(axis=0)).sum()
    return max(float(means + np.trace(covariance_a) + np.trace(covariance_b) - 2 * overlap), 0.0)


def precision(real: np.ndarray, fake: np.ndarray, k: int = 3) -> float:
    """Fraction of generated images that lie within the manifold of the real ones (Kynkäänniemi et al. 2019, eq. 1).

    The manifold is the union of balls around its images, each reaching to the k-th nearest other image. It grows with
    N: compare only figures of equal N. Raises ValueError for features of other shapes, of k images or fewer, or not
    finite.
    """
    return _covered(real, fake, k)


def recall(real: np.ndarray, fake: np.ndarray, k: int = 3) -> float:
    """Fraction of real images that lie within the manifold of the generated ones (Kynkäänniemi et al. 2019, eq. 1).

    Manifold, caveat and errors: as for precision.
    """
    return _covered(fake, real, k)


def kernel_distance(features_a: np.ndarray, features_b: np.ndarray, seed: int) -> tuple[float, float]:
    """Squared maximum mean discrepancy, kernel (x.y / D + 1)^3, unbiased: mean and standard deviation of subsets.

    100 pairs of random subsets of 1000 images, or of half the smaller set where that is less. Its expectation does not
    depend on N, and is 0 for samples of one distribution: single figures may fall below. The deviation is that of one
    subset's estimate. Computed by torch-fidelity (kernel inception distance, Bińkowski et al. 2018, on any features).
    Raises ValueError for features of other shapes, of less than four images, or not finite.
    """
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric

    a, b = _checked("features_a", features_a, 4), _checked("features_b", features_b, 4)
    _same_dimension(a, b)
    found = kid_features_to_metric(
        torch.from_numpy(a),
        torch.from_numpy(b),
        kid_subsets=SUBSETS,
        kid_subset_size=min(SUBSET_SIZE, len(a) // 2, len(b) // 2),
        rng_seed=seed % 2**32,
        verbose=False,
    )
    return found[KEY_METRIC_KID_MEAN], found[KEY_METRIC_KID_STD]


def inception_score(logits: np.ndarray, seed: int) -> tuple[float, float]:
    """exp E KL(p(y|x) || p(y)), from logits [N, classes]: mean and standard deviation of ten splits in random order.

    1 where every image looks the same to the classifier, at most the number of classes. Computed by torch-fidelity.
    Raises ValueError for less than ten images, or logits that are not finite.
    """
    from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, KEY_METRIC_ISC_STD, isc_features_to_metric

    checked = torch.from_numpy(_checked("logits", logits, SPLITS))
    found = isc_features_to_metric(checked, splits=SPLITS, shuffle=True, rng_seed=seed % 2**32)
    return found[KEY_METRIC_ISC_MEAN], found[KEY_METRIC_ISC_STD]


def _checked(name: str, features: np.ndarray, least: int) -> np.ndarray:
    x = np.asarray(features, np.float64)
    if x.ndim != 2 or len(x) < least or not x.shape[1]:
        raise ValueError(f"{name}: found shape {x.shape}, expected [N, D] of at least {least} images")
    if not np.isfinite(x).all():
        raise ValueError(f"{name}: found values that are not finite, expected finite features")
    return x


def _same_dimension(a: np.ndarray, b: np.ndarray) -> None:
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"features: found dimensions {a.shape[1]} and {b.shape[1]}, expected the same")


def _symmetric_root(covariance: np.ndarray) -> np.ndarray:
    """C^(1/2) of a positive semidefinite matrix; eigenvalues that rounding made negative count as 0."""
    eigenvalues, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(eigenvalues.clip(min=0))) @ vectors.T


def _covered(manifold: np.ndarray, points: np.ndarray, k: int) -> float:
    """Fraction of points [M, D] that lie in a ball around some row of manifold [N, D]."""
    if k < 1:
        raise ValueError(f"k: found {k}, expected at least 1")
    manifold, points = _checked("features", manifold, k + 1), _checked("features", points, 1)
    _same_dimension(manifold, points)
    centre = manifold.mean(axis=0)  # distances don't change, rounding errors shrink
    manifold, points = manifold - centre, points - centre
    radii = np.empty(len(manifold))
    for first in range(0, len(manifold), BLOCK):
        distances = _squared_distances(manifold[first : first + BLOCK], manifold)
        rows = np.arange(len(distances))
        distances[rows, first + rows] = np.inf  # nobody is their own neighbour
        radii[first : first + BLOCK] = np.partition(distances, k - 1, axis=1)[:, k - 1]
    inside = 0
    for first in range(0, len(points), BLOCK):
        inside += (_squared_distances(points[first : first + BLOCK], manifold) <= radii).any(axis=1).sum()
    return float(inside / len(points))


def _squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """[N, D], [M, D] -> [N, M]."""
    squares = np.square(a).sum(axis=1)[:, None] + np.square(b).sum(axis=1) - 2 * a @ b.T
    return squares.clip(min=0)
