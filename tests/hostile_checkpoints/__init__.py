"""Hostile checkpoint files, by what is wrong with them: see `CORPUS`."""

from tests.hostile_checkpoints import calls, malformed, structures, tensors, zips
from tests.hostile_checkpoints.case import Case

SUBJECTS: dict[str, dict[str, Case]] = {
    "calls": calls.CASES,
    "structures": structures.CASES,
    "tensors": tensors.CASES,
    "zips": zips.CASES,
    "malformed": malformed.CASES,
}
CORPUS: dict[str, Case] = {
    f"{subject}: {name}": case for subject, cases in SUBJECTS.items() for name, case in cases.items()
}
