"""The bundled demonstration: 16 suspects of known origin, two generators, their encoders and calibration."""

import json
from pathlib import Path

import generator
from attribution.calibration import Calibration, load_calibration

HERE = Path(__file__).parent
DEMO_SUSPECTS = HERE / "suspects"
MODELS = Path(generator.__file__).parent / "models"
NAMES = ("emoji-a", "emoji-b")


def demo_candidates() -> dict[str, Path]:
    """The bundled generators by name."""
    return {name: MODELS / f"{name}.safetensors" for name in NAMES}


def demo_encoders() -> dict[str, Path]:
    """The bundled generators' encoders, at whose w the searches begin, by the generator's name."""
    return {name: MODELS / f"{name}.encoder.safetensors" for name in NAMES}


def demo_calibration() -> Calibration:
    """The calibration of the bundled generators."""
    return load_calibration(HERE / "calibration.json")


def demo_truths() -> dict[str, str]:
    """Known origin of each suspect by file name: a candidate's name, "real", or another generator."""
    record = json.loads((HERE / "truth.json").read_text(encoding="utf-8"))
    return {name: entry["truth"] for name, entry in record["suspects"].items()}
