"""TensorBoard, an extra: the lines of the log as scalars, and the grids of samples."""

from pathlib import Path
from typing import Any

import numpy as np


class Board:
    """Event files in a folder; the steps are images shown. Nothing is written before `start`.

    Raises ValueError where the package is not installed.
    """

    def __init__(self, folder: Path):
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ValueError(
                '--tensorboard: found no package tensorboard, expected it installed (pip install ".[tensorboard]")'
            ) from error
        self.folder, self.open_writer = folder, SummaryWriter
        self.writer: Any = None

    def start(self, images: int) -> None:
        """Begin to write; TensorBoard forgets what an earlier process wrote beyond so many images."""
        self.writer = self.open_writer(str(self.folder), purge_step=images + 1)

    def add_line(self, line: dict[str, Any]) -> None:
        """A line of the log: a scalar for each figure."""
        images = round(line["kimg"] * 1000)
        for name, value in line.items():
            if name != "kimg":
                self.writer.add_scalar(name, value, images)
        self.writer.flush()

    def add_samples(self, grid: np.ndarray, images: int) -> None:
        """A grid of samples: uint8 [H, W, 3]."""
        self.writer.add_image("samples", grid, images, dataformats="HWC")
        self.writer.flush()

    def close(self) -> None:
        """Close the event file, if one was begun."""
        if self.writer:
            self.writer.close()
