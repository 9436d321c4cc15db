"""OUT/metrics.jsonl: one JSON object a line, each with the kimg that it belongs to."""

import json
from pathlib import Path
from typing import Any

from generator.files import write_atomically


class RunLog:
    """The lines of a run. The file is replaced as a whole at each new one: whoever is killed leaves no half line."""

    def __init__(self, path: Path):
        self.path = path
        self.lines: list[dict[str, Any]] = []

    def rewind(self, kimg: float) -> None:
        """Forget what was logged after the checkpoint of so many kimg, 0 without one: it will be logged again.

        Raises ValueError, naming the file and the line, for what is no line of such a log.
        """
        if not self.path.exists():
            return
        for number, text in enumerate(self.path.read_text(encoding="utf-8").splitlines(), 1):
            try:
                line = json.loads(text)
                if 0 < line["kimg"] <= kimg:
                    self.lines.append(line)
            except (ValueError, TypeError, KeyError) as error:
                found = text if len(text) <= 40 else f"{text[:37]}..."
                raise ValueError(
                    f"{self.path}: found {found!r} in line {number}, expected a JSON object with kimg"
                ) from error
        self._write()

    def add(self, line: dict[str, Any]) -> None:
        """Add one line."""
        self.lines.append(line)
        self._write()

    def _write(self) -> None:
        write_atomically(self.path, "".join(json.dumps(line) + "\n" for line in self.lines).encode())
