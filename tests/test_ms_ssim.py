"""Multi-scale structural similarity against pytorch-msssim and closed forms."""

import numpy as np
import pytest
import torch
from pytorch_msssim import ms_ssim as reference

from training.ms_ssim import C1, C2, WEIGHTS, ms_ssim


def pictures(n: int, side: int, seed: int) -> np.ndarray:
    """Noise on every scale: uint8 [n, side, side, 3]."""
    rng = np.random.default_rng(seed)
    total = np.zeros((n, side, side, 3))
    for grain in (1, 4, 16):
        coarse = rng.normal(size=(n, side // grain, side // grain, 3))
        total += coarse.repeat(grain, axis=1).repeat(grain, axis=2)
    return (128 + 30 * total).round().clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("blend", [1.0, 0.7, 0.2])
def test_images_above_the_window_on_every_scale_have_the_package_s_similarity(blend):
    """Grey images: the package takes the product over scales channel by channel, which is the same for
    one channel. Its window is float32."""
    a, b = (pictures(2, 176, seed)[..., :1].repeat(3, axis=3) for seed in (0, 1))
    b = (blend * a + (1 - blend) * b).round().astype(np.uint8)
    planes = [torch.from_numpy(x).permute(0, 3, 1, 2).double() for x in (a, b)]
    expected = reference(*planes, data_range=255, size_average=False)
    np.testing.assert_allclose(ms_ssim(a, b), expected.numpy(), rtol=1e-5)


@pytest.mark.parametrize("side", [16, 64])
def test_equal_images_are_one_and_others_less(side):
    a, b = pictures(3, side, 0), pictures(3, side, 1)
    np.testing.assert_allclose(ms_ssim(a, a), 1)
    assert (ms_ssim(a, b) < 0.6).all()
    np.testing.assert_allclose(ms_ssim(a, b), ms_ssim(b, a))


@pytest.mark.parametrize("side", [16, 40, 128])
def test_flat_images_differ_in_luminance_only(side):
    """Without contrast the structure is C2 / C2, so that luminance at the coarsest scale is all that is left."""
    x, y = 60.0, 180.0
    a, b = (np.full((1, side, side, 3), value, np.uint8) for value in (x, y))
    assert ms_ssim(a, b)[0] == pytest.approx(((2 * x * y + C1) / (x * x + y * y + C1)) ** WEIGHTS[-1], rel=1e-9)


def test_the_window_shrinks_with_the_image():
    """At 16 pixels the coarsest scale is one pixel, and the next is seen whole by a window of two."""
    a = np.zeros((1, 16, 16, 3), np.uint8)
    a[:, :, 8:] = 200  # halves, constant at every scale but the last, where they are one mean
    b = np.full_like(a, 100)
    found = 1.0
    for weight, size in zip(WEIGHTS[:4], (11, 8, 4, 2), strict=True):
        places = np.arange(size) - (size - 1) / 2
        window = np.exp(-0.5 * (places / (1.5 * size / 11)) ** 2)
        window /= window.sum()
        side = {11: 16, 8: 8, 4: 4, 2: 2}[size]
        row = np.where(np.arange(side) < side // 2, 0.0, 200.0)
        views = [row[i : i + size] for i in range(side - size + 1)]
        variances = [window @ v**2 - (window @ v) ** 2 for v in views]
        found *= np.mean([C2 / (variance + C2) for variance in variances]) ** weight
    assert ms_ssim(a, b)[0] == pytest.approx(found, rel=1e-9)


def test_pairs_do_not_depend_on_their_batch():
    a, b = pictures(19, 16, 0), pictures(19, 16, 1)
    np.testing.assert_allclose(ms_ssim(a, b)[17:], ms_ssim(a[17:], b[17:]))
    assert ms_ssim(a[:0], b[:0]).shape == (0,)


@pytest.mark.parametrize(
    ("shape_a", "shape_b"), [((1, 15, 15, 3), (1, 15, 15, 3)), ((2, 16, 16, 3), (1, 16, 16, 3)), ((16, 16), (16, 16))]
)
def test_other_shapes_are_refused(shape_a, shape_b):
    with pytest.raises(ValueError, match=r"^ms_ssim: found images of shapes .* expected equal ones"):
        ms_ssim(np.zeros(shape_a, np.uint8), np.zeros(shape_b, np.uint8))
