"""README's pictures: an uncurated 8x8 grid of each bundled generator's samples beside their nearest training images."""

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
SEEDS = range(64)
COLUMNS = 8


def main() -> None:
    """Write pictures/NAME.png beside this file: left samples of seeds 0 to 63 (psi 1), right each one's nearest image.

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
        write_atomically(
            ROOT / f"tests/benchmarks/pictures/{name}.png",
            encode_png(np.concatenate([sides[0], gap, sides[1]], axis=1)),
        )


def unit_rows(features: np.ndarray) -> np.ndarray:
    """Rows scaled to unit length."""
    return features / np.linalg.norm(features, axis=1, keepdims=True)


if __name__ == "__main__":
    main()
