"""Generators judged by name: what is computed, on what, and what is refused."""

import numpy as np
import pytest
import torch

from generator.networks import Generator, GeneratorConfig
from generator.sampling import derive_seed, sample_images
from training import metrics
from training.metrics import METRICS, evaluate_generator

CONFIG = GeneratorConfig(resolution=8, z_dim=4, w_dim=4, mapping_layers=1, channel_base=16, channel_max=2)
LARGER = GeneratorConfig(resolution=32, z_dim=4, w_dim=4, mapping_layers=1, channel_base=64, channel_max=2)


def channel_means(images: np.ndarray, device: object = "cpu") -> np.ndarray:
    """Features for the tests: the mean of each channel's left and right half."""
    assert images.dtype == np.uint8
    halves = np.concatenate([images[:, :, :4].mean(axis=(1, 2)), images[:, :, 4:].mean(axis=(1, 2))], axis=1)
    return halves.astype(np.float32)


@pytest.fixture
def quick(monkeypatch):
    """Channel means instead of VGG16."""
    monkeypatch.setattr(metrics, "vgg16_features", channel_means)


def strangers(n: int, side: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, side, side, 3), dtype=np.uint8)


def test_evaluation_follows_the_seed_and_keeps_the_order_of_the_metrics(quick):
    G = Generator(CONFIG).eval()

    def evaluate(seed: int) -> dict[str, float]:
        return evaluate_generator(G, strangers(12, 8), ["recall", "kd_vgg16", "fd_vgg16"], n_generated=20, seed=seed)

    figures = evaluate(0)
    assert list(figures) == ["recall", "kd_vgg16", "kd_vgg16_std", "fd_vgg16"]
    assert figures == evaluate(0)
    assert figures["fd_vgg16"] != evaluate(1)["fd_vgg16"]


def test_a_generators_own_images_are_close_to_it(quick):
    G = Generator(CONFIG).eval()
    own = sample_images(G, [derive_seed("evaluate", 0, i) for i in range(64)])
    names = ["fd_vgg16", "kd_vgg16", "precision", "recall", "swd"]
    far = evaluate_generator(G, strangers(64, 8), names, 64, seed=0)
    near = evaluate_generator(G, own, names, 64, seed=1)
    assert near["fd_vgg16"] < 0.1 * far["fd_vgg16"]
    assert abs(near["kd_vgg16"]) < 0.1 * far["kd_vgg16"]
    assert near["swd"] < 0.5 * far["swd"]
    assert near["precision"] > 0.7 and near["recall"] > 0.7
    same = evaluate_generator(G, own, ["fd_vgg16", "precision", "recall"], 64, seed=0)
    assert same == pytest.approx({"fd_vgg16": 0, "precision": 1, "recall": 1}, abs=1e-6)


def test_every_metric_without_inception_has_finite_figures(quick):
    names = [name for name in METRICS if name not in ("fid", "kid", "is")]
    figures = evaluate_generator(Generator(LARGER).eval(), strangers(5, 32), names, 6, seed=0)
    assert list(figures) == [
        *("fd_vgg16", "kd_vgg16", "kd_vgg16_std", "precision", "recall"),
        *("ppl", "swd", "swd_32", "swd_16", "ms_ssim"),
    ]
    assert np.isfinite([*figures.values()]).all()
    assert figures["swd"] == pytest.approx((figures["swd_32"] + figures["swd_16"]) / 2)


def test_a_generator_of_one_image_has_no_variation_and_no_path():
    G = Generator(LARGER).eval()
    torch.nn.init.zeros_(G.mapping.get_parameter("layers.0.weight"))  # the same w for every z
    figures = evaluate_generator(G, strangers(4, 32), ["ms_ssim", "ppl"], 6, seed=0)
    assert figures == pytest.approx({"ms_ssim": 1, "ppl": 0}, abs=1e-6)


def test_features_of_the_images_are_kept(quick, tmp_path, monkeypatch):
    G = Generator(CONFIG).eval()

    def evaluate() -> dict[str, float]:
        return evaluate_generator(G, strangers(12, 8), ["fd_vgg16"], 20, seed=0, cache=tmp_path / "cache")

    first = evaluate()
    (path,) = (tmp_path / "cache").iterdir()
    asked: list[int] = []

    def counted(images: np.ndarray, device: object) -> np.ndarray:
        asked.append(len(images))
        return channel_means(images)

    monkeypatch.setattr(metrics, "vgg16_features", counted)
    assert evaluate() == first and asked == [20]  # the samples' only
    path.write_bytes(b"hello")
    assert evaluate() == first and asked == [20, 12, 20]


@pytest.mark.parametrize(
    ("images", "names", "n", "message"),
    [
        (
            np.zeros((9, 8, 8, 3), np.uint8),
            ["recall", "psnr"],
            9,
            "^metrics: found psnr, expected some of fid, kid, is,",
        ),
        (np.zeros((9, 8, 8, 3), np.uint8), [], 9, "^metrics: found none"),
        (np.zeros((9, 8, 16, 3), np.uint8), ["recall"], 9, r"^images: found shape .*expected \[N, 8, 8, 3\]"),
        (np.zeros((3, 8, 8, 3), np.uint8), ["recall"], 9, "^images: found 3 and 9 generated, expected at least 4"),
        (np.zeros((9, 8, 8, 3), np.uint8), ["recall"], 3, "^images: found 9 and 3 generated, expected at least 4"),
        (
            np.zeros((9, 8, 8, 3), np.uint8),
            ["recall", "fid", "is"],
            9,
            r"^metrics: found fid, is without --inception FILE .* expected that or some of fd_vgg16, kd_vgg16,",
        ),
    ],
)
def test_impossible_evaluations_are_refused(images, names, n, message):
    with pytest.raises(ValueError, match=message):
        evaluate_generator(Generator(CONFIG), images, names, n, seed=0)
