"""Whether a projection depends on its batch, its batch mates or the number of threads, on this machine.

    python -m tests.benchmarks.agreement

Eight images of the bundled emoji-a are projected into it with the bundled calibration's settings, in one batch on all
threads, and again in other ways; printed are the differences of the final LPIPS. About five minutes on two cores.
"""

import torch

from attribution.demo import demo_calibration, demo_candidates
from attribution.projector import latent_statistics, project
from attribution.settings import settings_of
from generator import LPIPS, load_generator

IMAGES = 8


def main() -> None:
    """Print a line for each other way."""
    config = settings_of(demo_calibration(), IMAGES).config
    G = load_generator(demo_candidates()["emoji-a"])
    lpips, statistics, threads = LPIPS("vgg"), latent_statistics(G), torch.get_num_threads()
    rng = torch.Generator().manual_seed(0)
    z = torch.randn(IMAGES, G.z_dim, generator=rng)
    targets = G.synthesis(G.mapping(z), noise="random", generator=rng).clamp(-1, 1)

    def distances(order: list[int], threads: int) -> dict[int, float]:
        torch.set_num_threads(threads)
        found = project(G, targets[order], config=config, lpips=lpips, seeds=order, statistics=statistics)
        return {image: projection.lpips for image, projection in zip(order, found, strict=True)}

    everyone = list(range(IMAGES))
    first = distances(everyone, threads)
    ways = {
        "the same again": [(everyone, threads)],
        "batches of 1": [([image], threads) for image in everyone],
        "batches of 3, other mates": [([0, 7, 3], threads), ([6, 1, 4], threads), ([2, 5], threads)],
        "one thread": [(everyone, 1)],
    }
    print(
        f"{config.steps} steps, batch {IMAGES}, {threads} threads, PyTorch {torch.__version__}; distances against that:"
    )
    for name, runs in ways.items():
        again = {image: d for order, count in runs for image, d in distances(order, count).items()}
        differences = [abs(again[image] - first[image]) for image in everyone]
        print(f"{name}: {sum(differences) / IMAGES:.6f} in the mean, {max(differences):.6f} at most", flush=True)


if __name__ == "__main__":
    main()
