"""README's pictures: an uncurated 8x8 grid of each bundled generator's samples beside their nearest training images.

    python -m tests.benchmarks.sample_grids [--before NAME=FILE]

--before: instead, the samples of an earlier generator alone, to pictures/NAME-before.png.
"""

import argparse
from pathlib import Path

import numpy as np

from attribution.demo import demo_candidates
from generator import load_generator
from generator.features import vgg16_features
from generator.files import write_atomically
from generator.images import encode_png, image_grid
from generator.imagesets import open_image_set
from generator.sampling import sample_images
from training.dataset import load_training_images

ROOT = Path(__file__).parents[2]
PICTURES = Path(__file__).parent / "pictures"
SEEDS = range(64)
COLUMNS = 8


def beside_nearest() -> None:
    """Write pictures/NAME.png: left samples of seeds 0 to 63 (psi 1), right each one's nearest training image.

    Nearest by the cosine of VGG16's pooled features, among the training images and their mirror images.
    """
    training = load_training_images(open_image_set(ROOT / "tests/data/emoji-portraits-64.zip", ("train",)), 64).pixels
    training = np.concatenate([training, training[:, :, ::-1]])
    known = unit_rows(vgg16_features(training))
    for name, path in demo_candidates().items():
        samples = sample_images(load_generator(path), list(SEEDS))
        nearest = (unit_rows(vgg16_features(samples)) @ known.T).argmax(axis=1)
        sides = [image_grid(images, COLUMNS) for images in (samples, training[nearest])]
        gap = np.full((sides[0].shape[0], 32, 3), 255, np.uint8)
        write_atomically(PICTURES / f"{name}.png", encode_png(np.concatenate([sides[0], gap, sides[1]], axis=1)))


def main() -> None:
    """Write what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", metavar="NAME=FILE")
    before = parser.parse_args().before
    if before:
        name, _, file = before.partition("=")
        grid = image_grid(sample_images(load_generator(file), list(SEEDS)), COLUMNS)
        write_atomically(PICTURES / f"{name}-before.png", encode_png(grid))
    else:
        beside_nearest()


def unit_rows(features: np.ndarray) -> np.ndarray:
    """Rows scaled to unit length."""
    return features / np.linalg.norm(features, axis=1, keepdims=True)


if __name__ == "__main__":
    main()
