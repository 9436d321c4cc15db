"""Generators and what both training and attribution need of images: networks, files, LPIPS, image sets."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from generator.files import save_generator
    from generator.importers import import_checkpoint
    from generator.loading import load_generator
    from generator.lpips import LPIPS
    from generator.networks import Generator, GeneratorConfig

__all__ = ["LPIPS", "Generator", "GeneratorConfig", "import_checkpoint", "load_generator", "save_generator"]

_HOMES = {
    "LPIPS": "generator.lpips",
    "Generator": "generator.networks",
    "GeneratorConfig": "generator.networks",
    "import_checkpoint": "generator.importers",
    "load_generator": "generator.loading",
    "save_generator": "generator.files",
}


def __getattr__(name: str) -> Any:
    """Imported when asked for: the process that decodes images starts without PyTorch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'generator' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
