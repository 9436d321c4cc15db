"""Attribution: intake of suspects, projection, calibration, verdicts, and the pipeline that orders them."""

from attribution.calibration import Calibration, load_calibration
from attribution.pipeline import attribute
from attribution.projector import Projection, project
from attribution.schedules import ProjectionConfig

__all__ = ["Calibration", "Projection", "ProjectionConfig", "attribute", "load_calibration", "project"]
