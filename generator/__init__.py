"""Generators and what both training and attribution need of images: networks, files, LPIPS, image sets."""

from generator.files import save_generator
from generator.importers import import_checkpoint
from generator.loading import load_generator
from generator.lpips import LPIPS
from generator.networks import Generator, GeneratorConfig

__all__ = ["LPIPS", "Generator", "GeneratorConfig", "import_checkpoint", "load_generator", "save_generator"]
