"""The augmentation pipeline as a whole: identity, repeatability, gradients, refusals; and the controller of p."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.augmentation import GEOMETRIC, Only, rng
from training.augment import (
    BGC,
    CATEGORIES,
    _Draw,
    adjust_p,
    apply_bands,
    apply_colour,
    apply_cutout,
    augment,
    band_gains,
    colour_matrix,
    cutout_mask,
    geometry_inverse,
)
from training.warp import warp


@pytest.mark.parametrize("categories", [BGC, CATEGORIES, ()])
def test_at_p_zero_the_images_are_left_alone(categories):
    images = torch.randn(4, 3, 16, 16)
    kept = images.clone()
    assert augment(images, 0.0, rng(), categories) is images
    assert torch.equal(images, kept)


@pytest.mark.parametrize("category", CATEGORIES)
def test_a_stage_whose_gates_are_all_closed_is_left_out(category):
    images = torch.randn(2, 3, 16, 16)
    assert augment(images, 1e-6, rng(), [category]) is images
    assert augment(images, 1.0, rng(), [category]) is not images
    assert augment(images, 1.0, rng(), []) is images


@pytest.mark.parametrize("category", CATEGORIES)
def test_a_category_does_its_own_and_nothing_else(category):
    """What happens to a grey image: geometry keeps it, colour and filters keep it uniform."""
    images = torch.full((8, 3, 16, 16), 0.5)
    out = augment(images, 1.0, rng(1), [category])
    same = (out - images).abs() < 1e-5
    match category:
        case "blit" | "geometry":
            assert same.all()
        case "colour":
            assert not same.any() and (out - out[:, :, :1, :1]).abs().max() < 1e-6
        case "filter":  # scales a constant by the lowest band's gain, along both axes
            assert (out - out[:, :, :1, :1]).abs().max() < 1e-5 and not same.all()
        case "noise":
            assert (out != images).float().mean() > 0.99
        case "cutout":
            assert (same | (out == 0)).all() and 0.1 < (out == 0).float().mean() < 0.3


def test_an_image_whose_gates_are_closed_is_left_alone_among_others():
    """p is per image: with p = 0.05 about 0.95^13 of the images go through blit, geometry and colour unharmed."""
    images = torch.rand(400, 3, 8, 8)
    out = augment(images, 0.05, rng())
    untouched = ((out - images).abs().amax([1, 2, 3]) < 1e-5).double().mean()
    # x-flips, quarter turns, luma flips of 0 and translations of (0, 0) are the identity, too
    skipped = (1 - 0.05 / 2) ** 2 * (1 - 0.05 * 3 / 4) * (1 - 0.05 * 15 / 16) * 0.95 ** (3 + 1 + 4)
    assert abs(untouched - skipped) < 4 * math.sqrt(0.25 / 400)


def test_images_of_a_batch_are_transformed_differently():
    out = augment(torch.rand(1, 3, 16, 16).expand(8, -1, -1, -1), 1.0, rng(), CATEGORIES)
    assert torch.cdist(out.flatten(1), out.flatten(1)).add(torch.eye(8)).min() > 0.1


@given(
    st.floats(0, 1),
    st.sets(st.sampled_from(CATEGORIES)),
    st.sampled_from([(4, 4), (8, 8), (5, 12), (17, 3)]),
    st.integers(0, 2**31),
)
def test_the_same_generator_gives_the_same_images(p, categories, size, seed):
    images = torch.linspace(-1, 1, 2 * 3 * math.prod(size)).reshape(2, 3, *size)
    kept, before = images.clone(), torch.get_rng_state()
    out = augment(images, p, rng(seed), sorted(categories))
    assert out.shape == images.shape and out.dtype == images.dtype and out.isfinite().all()
    assert torch.equal(out, augment(images, p, rng(seed), sorted(categories)))
    assert torch.equal(images, kept) and torch.equal(torch.get_rng_state(), before)


def test_seeds_give_different_images():
    images = torch.rand(2, 3, 16, 16)
    assert not torch.equal(augment(images, 0.5, rng(0)), augment(images, 0.5, rng(1)))


@pytest.mark.parametrize("size", [(24, 40), (40, 24)])
def test_a_rectangular_image_keeps_its_shape_and_a_quarter_turn_its_middle(size):
    """NumPy's rot90, clockwise, of the plane that goes on by reflection."""

    class Quarter(Only):
        def integer(self, n: int) -> Tensor:
            return torch.ones(self.batch)

    y, x = np.mgrid[: size[0], : size[1]]
    image = np.sin(x / 5 + y / 9)
    inverse = geometry_inverse(Quarter(1, GEOMETRIC.index("90")), size[1], size[0], BGC)
    ours = warp(torch.tensor(image)[None, None], inverse)[0, 0].numpy()
    assert ours.shape == size
    square = np.pad(image, [(32 - n // 2, 32 - n // 2) for n in size], mode="reflect")
    theirs = np.rot90(square, -1)[tuple(slice(32 - n // 2, 32 + n // 2) for n in size)]
    assert np.abs(ours - theirs).max() < 0.06 < 0.5 < np.abs(ours - image).max()


def test_gradients_are_finite_differences():
    images = torch.rand(2, 3, 3, 4, dtype=torch.float64, requires_grad=True)
    draw = _Draw(2, 1.0, rng())
    matrix, gains, mask = colour_matrix(draw), band_gains(draw), cutout_mask(draw, 3, 4)
    assert torch.autograd.gradcheck(lambda x: apply_colour(x, matrix), images)
    assert torch.autograd.gradcheck(lambda x: apply_bands(x, gains), images)
    assert torch.autograd.gradcheck(lambda x: apply_cutout(x, mask), images)
    assert torch.autograd.gradcheck(lambda x: augment(x, 1.0, rng(), CATEGORIES), images)


def test_the_generator_gets_gradients_from_every_image():
    images = torch.rand(8, 3, 16, 16, requires_grad=True)
    augment(images, 0.7, rng(), CATEGORIES).square().sum().backward()
    assert images.grad is not None and (images.grad.flatten(1).norm(dim=1) > 0).all()


@pytest.mark.parametrize("p", [-0.1, 1.1, math.nan, math.inf])
def test_a_p_that_is_no_probability_is_named(p):
    with pytest.raises(ValueError, match=r"^p: found .*, expected a probability"):
        augment(torch.zeros(1, 3, 4, 4), p, rng())


def test_an_unknown_category_is_named():
    with pytest.raises(ValueError, match=r"^categories: found 'color', expected some of blit, geometry, colour"):
        augment(torch.zeros(1, 3, 4, 4), 0.5, rng(), ["blit", "color"])


@pytest.mark.parametrize(
    "images",
    [
        torch.zeros(3, 4, 4),
        torch.zeros(1, 1, 4, 4),
        torch.zeros(1, 3, 4, 1),
        torch.zeros(1, 3, 4, 4, dtype=torch.uint8),
    ],
)
def test_other_images_are_named(images):
    with pytest.raises(ValueError, match=r"^images: found torch\..* of shape \(.*\), expected floating point"):
        augment(images, 0.5, rng())


# --- the controller


def test_p_goes_from_0_to_1_in_500_thousand_images_and_back():
    p, images = 0.0, 4 * 50
    for _ in range(500_000 // images):
        assert p < 1 - 1e-9
        p = adjust_p(p, 0.61, images, 0.6, 500)
    assert p == pytest.approx(1, abs=1e-9)
    for _ in range(500_000 // images):
        p = adjust_p(p, 0.59, images, 0.6, 500)
    assert p == pytest.approx(0, abs=1e-9)


def test_p_falls_at_the_target_and_stays_in_0_to_1():
    assert adjust_p(0.5, 0.6, 1000, 0.6, 100) == pytest.approx(0.49)
    assert adjust_p(0.5, -1.0, 1000, 0.6, 100) == pytest.approx(0.49)
    assert adjust_p(0.5, 0.7, 1000, 0.6, 100) == pytest.approx(0.51)
    assert adjust_p(0.001, 0.0, 1000, 0.6, 100) == 0.0
    assert adjust_p(0.999, 1.0, 1000, 0.6, 100) == 1.0


@given(st.floats(0, 1), st.floats(-1, 1), st.integers(1, 10_000), st.floats(-1, 1), st.floats(1, 1000))
def test_p_is_always_a_probability(p, r_t, images, target, ramp):
    after = adjust_p(p, r_t, images, target, ramp)
    assert 0 <= after <= 1 and (after >= p if r_t > target else after <= p)
