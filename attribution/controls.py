"""Run controls: calibration images that every run projects again, so that a drift of the numbers shows."""

import base64
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from attribution.calibration import Calibration, Control
from attribution.engine import Candidate, ProjectionTask, projection_of
from attribution.report import ControlRecord
from attribution.store import RunStore


def control_tasks(calibration: Calibration | None) -> list[ProjectionTask]:
    """The projections that the controls need."""
    controls = calibration.controls if calibration else ()
    return [ProjectionTask(control.pixels_sha256, _loader(control)) for control in controls]


def _loader(control: Control):
    def load(resolution: int) -> np.ndarray:
        image = Image.open(io.BytesIO(base64.b64decode(control.png_base64))).convert("RGB")
        if image.size != (resolution, resolution):
            raise ValueError(f"calibration: control {control.name} is {image.size}, expected {resolution}x{resolution}")
        return np.asarray(image)

    return load


def control_records(
    calibration: Calibration | None, candidates: Sequence[Candidate], order: Sequence[int], store: RunStore
) -> list[ControlRecord] | None:
    """Each control's distances now, and in the calibration after as many steps, under the run's names.

    None without a calibration.
    """
    if calibration is None:
        return None
    records = []
    for control in calibration.controls:
        now, then, steps = {}, {}, int(calibration.projection["steps"])
        for known, place in zip(calibration.candidates, order, strict=True):
            name = candidates[place].name
            projected = projection_of(store, control.pixels_sha256, name) or {}
            now[name] = projected.get(
                "lpips", -1.0
            )  # a failed projection has no distance: its drift exceeds any tolerance
            steps = min(steps, projected.get("steps", steps))
            then[name] = calibration.control_distance(control, known.name, steps)
        drift = max(abs(now[name] - then[name]) for name in now)
        records.append(ControlRecord(control.kind, control.pixels_sha256, now, then, drift, steps))
    return records
