"""Generators and what both training and attribution need of images: networks, files, LPIPS, image sets."""

from generator.files import load_generator, save_generator
from generator.lpips import LPIPS
from generator.networks import Generator, GeneratorConfig

__all__ = ["LPIPS", "Generator", "GeneratorConfig", "load_generator", "save_generator"]
