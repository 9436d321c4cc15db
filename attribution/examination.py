"""The suspects of a run, read one after another while it goes on, so that a folder's size doesn't delay its start."""

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from attribution.calibration import Calibration
from attribution.engine import ProjectionTask
from attribution.intake import Stratum, Suspect, SuspectFile, estimate_stratum, prepare_side, prepare_target
from generator.containers import ImageError

Read = Callable[[SuspectFile], Suspect]


@dataclass(frozen=True, slots=True)
class IntakeRecord:
    """A suspect without its pixels, and its stratum for each candidate."""

    suspect: Suspect
    strata: tuple[Stratum, ...]


@dataclass(frozen=True)
class Examination:
    """What is done with the files of a run. resolutions: of the candidates; shape: as `prepare_target` has it."""

    files: Sequence[SuspectFile]
    resolutions: tuple[int, ...]
    shape: str
    read: Read

    def tasks(self, records: list[IntakeRecord], known: Collection[str]) -> Iterator[ProjectionTask]:
        """Read every file, add its record, and yield what is to be projected: each image once, by its pixels.

        known: pixel hashes of images that are projected anyway.
        """
        shared: dict[str, Any] = {}
        seen = set(known)
        for file in self.files:
            record, targets = self._take_in(file)
            records.append(_slim(record, shared))
            key = record.suspect.pixels_sha256
            if targets and key and key not in seen:
                seen.add(key)
                yield ProjectionTask(key, targets.__getitem__)

    def require_one_face(self, calibration: Calibration | None) -> None:
        """Raise ValueError where the same pixels, which are projected once, are to be cut in two ways."""
        first: dict[str | None, Suspect] = {}
        controls = {control.pixels_sha256 for control in calibration.controls} if calibration else set()
        for file in self.files:
            suspect = self._take_in(file)[0].suspect
            if suspect.error or suspect.refusal:
                continue
            if suspect.pixels_sha256 in controls:
                found = f"found the pixels of {suspect.path} among the calibration's controls"
                raise ValueError(f"--landmarks: {found}, expected an image that is none")
            other = first.setdefault(suspect.pixels_sha256, suspect)
            if other.landmarks != suspect.landmarks:
                raise ValueError(
                    f"--landmarks: found other points for {suspect.path} than for {other.path}, expected the same for "
                    "the same pixels"
                )

    def _take_in(self, file: SuspectFile) -> tuple[IntakeRecord, dict[int, np.ndarray]]:
        """Decode a file and make its target for every resolution; none for a file that is not projected."""
        suspect = self.read(file)
        if suspect.pixels is None:
            return IntakeRecord(suspect, ()), {}
        transforms, targets = list(suspect.intake), {}
        try:
            for resolution in sorted(set(self.resolutions)):
                target = prepare_target(suspect, resolution, self.shape)
                transforms += target.transforms
                targets[resolution] = target.pixels
        except ImageError as error:
            return IntakeRecord(replace(suspect, pixels=None, refusal=error.message), ()), {}
        side = prepare_side(suspect, self.shape)
        strata = tuple(estimate_stratum(suspect, side, resolution) for resolution in self.resolutions)
        return IntakeRecord(replace(suspect, pixels=None, intake=tuple(transforms)), strata), targets


def digest_of(records: Sequence[IntakeRecord]) -> str:
    """Names and content of the suspects: another folder content is another report, finished at another time."""
    listed = "\n".join(f"{r.suspect.path} {r.suspect.sha256}" for r in records)
    return hashlib.sha256(listed.encode()).hexdigest()


def _slim(record: IntakeRecord, shared: dict[str, Any]) -> IntakeRecord:
    """The record with transforms and facts that equal an earlier file's kept once: folders are large and uniform."""

    def once(value: Any) -> Any:
        return shared.setdefault(json.dumps(value), value)

    suspect = record.suspect
    suspect = replace(suspect, intake=tuple(map(once, suspect.intake)), facts=once(suspect.facts))
    return replace(record, suspect=suspect)
