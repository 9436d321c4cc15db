"""Tiny generators, image sets and calibrations for the tests of the pipeline and the command line."""

import csv
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from generator import Generator, GeneratorConfig, save_generator
from generator.sampling import sample_images

TINY = GeneratorConfig(resolution=16, z_dim=8, w_dim=8, mapping_layers=2, channel_base=128, channel_max=8)


def tiny_generator(path: Path, seed: int, config: GeneratorConfig = TINY) -> Path:
    """Write a small random generator whose images vary with z."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        G = Generator(config)
        for layer in G.synthesis.layers:
            layer.noise_strength.data.fill_(0.05)
    save_generator(G, path, {"trained_by": "a test"})
    return path


def write_reals(folder: Path, n: int) -> Path:
    """n smooth random pictures with an index.csv, two of each source."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    rows = []
    for i in range(n):
        coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8))
        coarse.resize((16, 16), Image.Resampling.BICUBIC).save(folder / f"{i:03d}.png")
        rows.append({"file": f"{i:03d}.png", "source": f"s{i // 2}", "split": "x" if i % 3 else "y"})
    with open(folder / "index.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return folder


def write_samples(folder: Path, generator: Path, seeds: list[int]) -> Path:
    """Images of a generator as PNG files."""
    from generator import load_generator

    folder.mkdir(exist_ok=True)
    for seed, pixels in zip(seeds, sample_images(load_generator(generator), seeds), strict=True):
        Image.fromarray(pixels).save(folder / f"{generator.stem}-{seed}.png")
    return folder
