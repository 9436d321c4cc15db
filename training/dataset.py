"""Training images: decoded, checked, hashed, and drawn in an order that depends on the seed and the step alone."""

import hashlib
from dataclasses import dataclass

import numpy as np

from generator.containers import ImageError
from generator.decoding import decode
from generator.imagesets import ImageSet
from training.labels import Labels


@dataclass(frozen=True)
class TrainingImages:
    """pixels: uint8 [N, r, r, 3]; sha256: over the file bytes in the order of their names, and the labels, if any.

    labels: int64 [N] numbers of the classes, whose names are `classes`; None for an unconditional model.
    """

    pixels: np.ndarray
    sha256: str
    labels: np.ndarray | None = None
    classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.pixels)


def load_training_images(images: ImageSet, resolution: int, labels: Labels | None = None) -> TrainingImages:
    """Decode every image of a set. Raises ValueError that names the first file of another size or form."""
    pixels = np.empty((len(images), resolution, resolution, 3), np.uint8)
    digest = hashlib.sha256()
    names = [record.name for record in images.records]
    for i, data in enumerate(images.read(names)):
        digest.update(hashlib.sha256(data).digest())
        try:
            image = decode(data)
        except ImageError as error:
            raise ValueError(f"{images.path}/{names[i]}: {error.message}") from error
        if (image.width, image.height) != (resolution, resolution):
            raise ValueError(
                f"{images.path}/{names[i]}: found {image.width}x{image.height}, expected {resolution}x{resolution}"
            )
        pixels[i] = image.pixels
    if labels is None:
        return TrainingImages(pixels, digest.hexdigest())
    digest.update(labels.numbers.astype("<i8").tobytes())
    return TrainingImages(pixels, digest.hexdigest(), labels.numbers, labels.names)


def first_resolution(images: ImageSet) -> int:
    """Width and height of a set's first image. Raises ValueError, naming it, where it is damaged or not square."""
    name = images.records[0].name
    try:
        image = decode(next(images.read([name])))
    except ImageError as error:
        raise ValueError(f"{images.path}/{name}: {error.message}") from error
    if image.width != image.height:
        raise ValueError(f"{images.path}/{name}: found {image.width}x{image.height}, expected a square image")
    return image.width


def batch_indices(n: int, batch: int, step: int, seed: int) -> np.ndarray:
    """The images of one step: each epoch is a permutation drawn from (seed, epoch). -> [batch] indices below n."""
    positions = np.arange(step * batch, (step + 1) * batch)
    epochs, places = positions // n, positions % n
    orders = {epoch: np.random.default_rng([seed, 1, epoch]).permutation(n) for epoch in np.unique(epochs)}
    return np.array([orders[epoch][place] for epoch, place in zip(epochs, places, strict=True)])
