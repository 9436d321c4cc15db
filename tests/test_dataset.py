"""Training images and the order in which they are drawn."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from generator.images import encode_png
from generator.imagesets import open_image_set
from training.dataset import batch_indices, first_resolution, load_training_images


@pytest.fixture
def folder(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    for name, image in zip(("b.png", "c.png", "a.png"), pixels, strict=True):
        (tmp_path / name).write_bytes(encode_png(image))
    return tmp_path, pixels[[2, 0, 1]]


def test_images_come_in_the_order_of_their_names_with_a_hash_of_their_bytes(folder):
    path, pixels = folder
    images = load_training_images(open_image_set(path), 8)
    np.testing.assert_array_equal(images.pixels, pixels)
    digests = b"".join(hashlib.sha256((path / name).read_bytes()).digest() for name in ("a.png", "b.png", "c.png"))
    assert images.sha256 == hashlib.sha256(digests).hexdigest()
    assert len(images) == 3


def test_an_image_of_another_size_is_named(folder):
    path, _ = folder
    (path / "b.png").write_bytes(encode_png(np.zeros((8, 9, 3), np.uint8)))
    with pytest.raises(ValueError, match=r"b\.png: found 9x8, expected 8x8"):
        load_training_images(open_image_set(path), 8)


def test_the_first_image_tells_the_resolution(folder):
    path, _ = folder
    assert first_resolution(open_image_set(path)) == 8
    (path / "a.png").write_bytes(encode_png(np.zeros((8, 9, 3), np.uint8)))
    with pytest.raises(ValueError, match=r"a\.png: found 9x8, expected a square image"):
        first_resolution(open_image_set(path))
    (path / "a.png").write_bytes(b"hello")
    with pytest.raises(ValueError, match=r"a\.png: found .*expected"):
        first_resolution(open_image_set(path))


@pytest.mark.parametrize("damage", [lambda data: b"hello", lambda data: data[:-40], lambda data: b""])
def test_a_damaged_image_is_named(folder, damage):
    path, _ = folder
    (path / "c.png").write_bytes(damage((path / "c.png").read_bytes()))
    with pytest.raises(ValueError, match=r"c\.png: found .*expected"):
        load_training_images(open_image_set(path), 8)


@given(n=st.integers(1, 20), batch=st.integers(1, 8), seed=st.integers(0, 2**32), epochs=st.integers(1, 4))
def test_each_epoch_is_a_permutation(n, batch, seed, epochs):
    steps = -(-n * epochs // batch)
    order = np.concatenate([batch_indices(n, batch, step, seed) for step in range(steps)])
    for epoch in range(epochs):
        assert sorted(order[epoch * n : (epoch + 1) * n]) == list(range(n))


@given(n=st.integers(1, 20), step=st.integers(0, 30), seed=st.integers(0, 2**32))
def test_the_order_of_images_does_not_depend_on_the_batch_size(n, step, seed):
    singles = [batch_indices(n, 1, step * 3 + i, seed)[0] for i in range(3)]
    assert batch_indices(n, 3, step, seed).tolist() == singles


def test_orders_differ_between_epochs_and_seeds():
    first, second = batch_indices(50, 50, 0, seed=1), batch_indices(50, 50, 1, seed=1)
    assert first.tolist() != second.tolist()
    assert first.tolist() != batch_indices(50, 50, 0, seed=2).tolist()
