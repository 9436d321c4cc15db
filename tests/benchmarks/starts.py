"""The search's start at mu_w, as the paper has it, against a start at an encoder's w, at equal cost.

    python -m tests.benchmarks.starts ENCODER... [--steps 15,30,60]

For each bundled generator whose encoder is given: its own fresh images and held-out real ones are projected from mu_w,
from the encoder's w with Appendix D's settings, and from there with the default method's; printed are mean distances,
the AUC, and what part of its own images ends closer than the closest real one. The better of the first and the last, at
twice the cost, bounds what several starts of which most are given up early can reach.
"""

import argparse
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from attribution.demo import demo_candidates
from attribution.projector import latent_statistics, project
from attribution.schedules import ProjectionConfig, method_config
from generator import LPIPS, load_generator
from generator.encoder import Encoder, load_encoder
from generator.files import file_sha256
from generator.images import to_unit
from generator.imagesets import open_image_set
from generator.networks import Generator
from generator.sampling import derive_seed, sample_images
from training.dataset import load_training_images

REALS = Path(__file__).parents[1] / "data" / "emoji-portraits-64.zip"
BATCH = 16


def distances(
    G: Generator, pixels: np.ndarray, config: ProjectionConfig, lpips: LPIPS, encoder: Encoder | None
) -> np.ndarray:
    """Final LPIPS of each image."""
    statistics = latent_statistics(G)
    found = []
    for first in range(0, len(pixels), BATCH):
        batch = to_unit(pixels[first : first + BATCH])
        seeds = list(range(first, first + len(batch)))
        found += project(G, batch, config=config, lpips=lpips, seeds=seeds, statistics=statistics, encoder=encoder)
    return np.array([projection.lpips for projection in found])


def main() -> None:
    """Print a line per generator, number of steps, settings and start."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoder", nargs="+", type=Path)
    parser.add_argument("--steps", default="15,30,60")
    parser.add_argument("--images", type=int, default=32)
    options = parser.parse_args()
    lpips = LPIPS("vgg")
    files = {file_sha256(path): (name, path) for name, path in demo_candidates().items()}
    reals = load_training_images(open_image_set(REALS, ("held-out",)), 64).pixels
    chosen = np.random.default_rng(0).permutation(len(reals))[: options.images]
    print("generator | steps | start | own | real | AUC | own below all real")
    for opened in map(load_encoder, options.encoder):
        name, path = files[opened.generator_sha256]
        G = load_generator(path)
        own = sample_images(G, [derive_seed("starts", name, i) for i in range(options.images)])
        for steps in [int(n) for n in options.steps.split(",")]:
            plain, smaller = (method_config("default", steps, encoded) for encoded in (False, True))
            starts = {
                "mu_w": (plain, None),
                "encoder, settings as from mu_w": (plain, opened.encoder),
                "encoder": (smaller, opened.encoder),
            }
            found = {s: [distances(G, p, c, lpips, e) for p in (own, reals[chosen])] for s, (c, e) in starts.items()}
            pairs = zip(found["mu_w"], found["encoder"], strict=True)
            found["the better of mu_w and encoder, both searched"] = [np.minimum(*pair) for pair in pairs]
            for start, (a, b) in found.items():
                auc = roc_auc_score([1] * len(a) + [0] * len(b), -np.concatenate([a, b]))
                below = (a < b.min()).mean()
                row = f"{a.mean():.4f} | {b.mean():.4f} | {auc:.4f} | {below:.2f}"
                print(f"{name} | {steps} | {start} | {row}", flush=True)


if __name__ == "__main__":
    main()
