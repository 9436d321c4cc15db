"""How good a generator is, by name: distances to a set of images, variation and smoothness."""

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from generator.features import FEATURES, vgg16_features
from generator.files import file_sha256
from generator.networks import Generator
from generator.sampling import derive_seed, sample_images
from training.distances import frechet_distance, inception_score, kernel_distance, precision, recall
from training.feature_cache import cached_features
from training.inception import load_inception
from training.ms_ssim import ms_ssim
from training.perceptual_path_length import perceptual_path_lengths
from training.sliced_wasserstein import sliced_wasserstein

Pair = tuple[np.ndarray, np.ndarray]


class Comparison:
    """A generator and the images it is compared with; what several metrics need is computed once, where one asks."""

    def __init__(
        self, G: Generator, images: np.ndarray, n: int, seed: int, inception: Path | None, cache: Path | None
    ) -> None:
        self.G, self.real, self.n, self.seed = G, images, n, seed
        self.inception, self.cache, self.device = inception, cache, G.mapping.w_avg.device

    @cached_property
    def fake(self) -> np.ndarray:
        """n samples, psi 1, random noise: uint8 [n, r, r, 3]."""
        return sample_images(self.G, [derive_seed("evaluate", self.seed, i) for i in range(self.n)])

    @cached_property
    def vgg16(self) -> Pair:
        """VGG16's features of the images and of the samples."""
        extract = partial(vgg16_features, device=self.device)
        real = cached_features(self.cache, f"vgg16:{FEATURES['vgg'].sha256}", self.real, extract)
        return real, extract(self.fake)

    @cached_property
    def inception_v3(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """InceptionV3's features of the images and of the samples, and its logits of the samples."""
        assert self.inception is not None  # evaluate_generator has checked
        extract = load_inception(self.inception, self.device)
        network = f"inception:{file_sha256(self.inception)}"
        real = cached_features(self.cache, network, self.real, lambda images: extract(images)[0])
        return real, *extract(self.fake)


def _fid(c: Comparison) -> dict[str, float]:
    return {"fid": frechet_distance(*c.inception_v3[:2])}


def _kid(c: Comparison) -> dict[str, float]:
    return _with_deviation("kid", kernel_distance(c.inception_v3[1], c.inception_v3[0], c.seed))


def _is(c: Comparison) -> dict[str, float]:
    return _with_deviation("is", inception_score(c.inception_v3[2], c.seed))


def _fd_vgg16(c: Comparison) -> dict[str, float]:
    return {"fd_vgg16": frechet_distance(*c.vgg16)}


def _kd_vgg16(c: Comparison) -> dict[str, float]:
    return _with_deviation("kd_vgg16", kernel_distance(c.vgg16[1], c.vgg16[0], c.seed))


def _precision(c: Comparison) -> dict[str, float]:
    return {"precision": precision(*c.vgg16)}


def _recall(c: Comparison) -> dict[str, float]:
    return {"recall": recall(*c.vgg16)}


def _ppl(c: Comparison) -> dict[str, float]:
    return {"ppl": float(perceptual_path_lengths(c.G, c.n, c.seed).mean())}


def _swd(c: Comparison) -> dict[str, float]:
    levels = sliced_wasserstein(c.real, c.fake, c.seed)
    return {"swd": float(np.mean([*levels.values()]))} | {f"swd_{side}": value for side, value in levels.items()}


def _ms_ssim(c: Comparison) -> dict[str, float]:
    pairs = len(c.fake) // 2
    return {"ms_ssim": float(ms_ssim(c.fake[:pairs], c.fake[pairs : 2 * pairs]).mean())}


def _with_deviation(name: str, mean_and_deviation: tuple[float, float]) -> dict[str, float]:
    mean, deviation = mean_and_deviation
    return {name: mean, f"{name}_std": deviation}


METRICS: dict[str, Callable[[Comparison], dict[str, float]]] = {
    "fid": _fid,
    "kid": _kid,
    "is": _is,
    "fd_vgg16": _fd_vgg16,
    "kd_vgg16": _kd_vgg16,
    "precision": _precision,
    "recall": _recall,
    "ppl": _ppl,
    "swd": _swd,
    "ms_ssim": _ms_ssim,
}
NEED_INCEPTION = ("fid", "kid", "is")  # on other features they would be other metrics, and are named so
FEWEST = {"is": 10}  # samples; of all others 4


def evaluate_generator(
    G: Generator,
    images: np.ndarray,
    metrics: Sequence[str],
    n_generated: int,
    seed: int,
    inception: Path | None = None,
    cache: Path | None = None,
) -> dict[str, float]:
    """Judge n_generated samples (psi 1, random noise) by each of the named metrics (see METRICS), against images.

    images: uint8 [N, r, r, 3], r the generator's resolution; features are computed where G is. inception: a weights
    file for fid, kid and is. cache: a folder that keeps the images' features. The samples depend on the seed alone,
    sample i also not on n_generated. The result has the metrics in the order asked for, deviations and levels beside
    them. Raises ValueError for an unknown metric, one that lacks its weights, images of another size, or too few on
    either side.
    """
    check_metrics(metrics, inception)
    if images.ndim != 4 or images.shape[1:] != (G.resolution, G.resolution, 3):
        raise ValueError(f"images: found shape {images.shape}, expected [N, {G.resolution}, {G.resolution}, 3]")
    fewest = max(FEWEST.get(name, 4) for name in metrics)
    if n_generated < fewest or len(images) < 4:
        raise ValueError(
            f"images: found {len(images)} and {n_generated} generated, expected at least 4 and {fewest} generated"
        )
    comparison = Comparison(G, images, n_generated, seed, inception, cache)
    return {key: value for name in metrics for key, value in METRICS[name](comparison).items()}


def check_metrics(metrics: Sequence[str], inception: Path | None) -> None:
    """Raise ValueError for no metric, an unknown one, or one that lacks its weights."""
    unknown = [name for name in metrics if name not in METRICS]
    if unknown or not metrics:
        raise ValueError(f"metrics: found {', '.join(unknown) or 'none'}, expected some of {', '.join(METRICS)}")
    lacking = [name for name in metrics if name in NEED_INCEPTION]
    if lacking and inception is None:
        others = ", ".join(name for name in METRICS if name not in NEED_INCEPTION)
        raise ValueError(
            f"metrics: found {', '.join(lacking)} without --inception FILE (InceptionV3's weights), expected that or "
            f"some of {others}"
        )
