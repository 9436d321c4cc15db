"""The landmarks of the suspects' faces, from the file of --landmarks."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from generator.alignment import read_landmarks
from generator.files import file_sha256


@dataclass(frozen=True)
class Landmarks:
    """Points by file, as they were read; sha256: of the file that they were read from."""

    points: dict[str, Any] = field(repr=False)
    sha256: str

    @classmethod
    def read(cls, path: Path) -> Self:
        """From a JSON file {"file": points}. Raises ValueError for another form."""
        return cls(read_landmarks(path), file_sha256(path))

    def by_file(self, paths: Sequence[str]) -> dict[str, Any]:
        """The points of each suspect that has some: by its path as the report shows it, else by its file name alone.

        Raises ValueError for a file name that several suspects without an entry of their own share.
        """
        names = {path: path.rsplit("/", 1)[-1] for path in paths if path not in self.points}
        shared = sorted(n for n, count in Counter(names.values()).items() if count > 1 and n in self.points)
        if shared:
            found = f"found points for {shared[0]}, which several images are called"
            raise ValueError(f"--landmarks: {found}, expected them by the images' paths")
        own = {path: self.points[path] for path in paths if path in self.points}
        return own | {path: self.points[name] for path, name in names.items() if name in self.points}
