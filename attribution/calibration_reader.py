"""A calibration file's JSON back to its parts, with every field checked before anything is made of it."""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

from attribution.calibration_checks import require_classes, require_fitted
from attribution.calibration_json import CALIBRATION_SCHEMA, EARLY, Control, content_id
from attribution.case_directory import NAME
from attribution.evidence import DecisionSettings
from attribution.field_checks import SHA256, matched, number, numbers, one_of, require_keys, typed, whole
from attribution.fitted_reader import read_fitted
from attribution.fitting import unreachable
from attribution.intake import Stratum
from attribution.population import PARTS
from attribution.report import CandidateRecord
from attribution.schedules import ProjectionConfig
from attribution.scores import ScoreSet, Unit
from attribution.stopping_reader import read_stopping
from attribution.validation_reader import read_validation
from attribution.verdict import CODES
from generator.decoding import Limits, decode, pixels_sha256
from generator.features import FEATURES

KEYS = (
    *("schema", "id", "created", "tool_version", "candidates", "projection", "decision", "population", "strata"),
    *("scores", "fitted", "unreachable", "lineages", "validation", "controls"),
)
DECISION_KEYS = ("alpha", "delta", "epsilon", "lambda", "mu")
CODECS = ("png", "jpeg", "webp", "avif")
FARTHEST = 1e3  # far above any LPIPS
CONTROLS_AT_MOST = 64
CONTROL_LIMITS = Limits(max_pixels=2**20)  # 1024 x 1024


def read_fields(content: Any) -> dict[str, Any]:
    """The arguments of `Calibration` from a file's content.

    Raises ValueError that names the field for what is missing, extra, of another type, not finite, of another length,
    out of range, or at odds with the rest; and for content that doesn't match its id.
    """
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema != CALIBRATION_SCHEMA:
        raise ValueError(f"schema: found {str(schema)[:40]!r}, expected {CALIBRATION_SCHEMA!r}")
    require_keys(content, [*KEYS, *({"stopping"} & set(content))], "calibration")
    found = content_id({key: value for key, value in content.items() if key != "id"})
    if content["id"] != found:
        shown = str(content["id"])[:40]
        raise ValueError(f"id: found {shown!r}, expected {found!r}: the content was changed after writing")
    candidates = read_candidates(content["candidates"])
    names = [candidate.name for candidate in candidates]
    decision = _read_decision(content["decision"])
    require_keys(content["scores"], PARTS, "scores")
    scores = {part: _read_scores(content["scores"][part], names, f"scores.{part}") for part in PARTS}
    require_classes(names, scores["calibration"], scores["validation"])
    rule = read_stopping(content["stopping"], len(names), scores, decision) if "stopping" in content else None
    projection = _read_projection(content["projection"])
    if rule and rule.steps[-1] >= projection["steps"]:
        found = f"found a checkpoint after {rule.steps[-1]} steps"
        raise ValueError(f"stopping.checkpoints: {found}, expected fewer than a search's {projection['steps']}")
    fitted = read_fitted(content["fitted"], content["lineages"], names)
    require_fitted(fitted, scores["calibration"], decision, names)
    expected = unreachable(fitted, [len(units) for units in scores["calibration"].generated], names, decision)
    return {
        "candidates": candidates,
        "decision": decision,
        "projection": projection,
        "population": _read_population(content["population"]),
        "strata": _read_strata(content["strata"]),
        "scores": scores,
        "fitted": fitted,
        "unreachable": _read_unreachable(content["unreachable"], names, expected),
        "validation": read_validation(content["validation"], scores["validation"], names, rule),
        "controls": _read_controls(content["controls"], candidates, len(rule.steps) if rule else 0),
        "tool_version": typed(content["tool_version"], str, "tool_version"),
        "created": _read_time(content["created"], "created"),
        "stopping": rule,
    }


def read_candidates(value: Any) -> tuple[CandidateRecord, ...]:
    """The candidates' entries. Raises ValueError that names the field."""
    candidates = []
    for place, entry in enumerate(typed(value, list, "candidates")):
        where = f"candidates.{place}"
        require_keys(entry, [field.name for field in fields(CandidateRecord)], where)
        matched(entry["name"], NAME, f"{where}.name")
        matched(entry["sha256"], SHA256, f"{where}.sha256")
        matched(entry["architecture"], NAME, f"{where}.architecture")
        one_of(entry["resolution"], [2**i for i in range(3, 11)], f"{where}.resolution")
        original = typed(entry["provenance"], dict, f"{where}.provenance").get("original_sha256")
        if original is not None:
            matched(original, SHA256, f"{where}.provenance.original_sha256")
        candidates.append(CandidateRecord(**entry))
    for key in ("name", "sha256"):
        found = [getattr(candidate, key) for candidate in candidates]
        if not found or len(set(found)) < len(found):
            raise ValueError(f"candidates: found {key} {', '.join(found)}, expected at least one and distinct ones")
    return tuple(candidates)


def _read_decision(value: Any) -> DecisionSettings:
    require_keys(value, DECISION_KEYS, "decision")
    alpha, delta, epsilon, lambda_, mu = (number(value[key], f"decision.{key}") for key in DECISION_KEYS)
    try:
        return DecisionSettings(alpha, delta, epsilon, lambda_, mu)
    except ValueError as error:
        raise ValueError(f"decision: {error}") from error


def _read_projection(value: Any) -> dict[str, Any]:
    """What `settings.projection_record` wrote."""
    names = [field.name for field in fields(ProjectionConfig)]
    searched_from = {"encoders"} & set(typed(value, dict, "projection"))
    require_keys(value, [*names, "lpips", "seed", *searched_from], "projection")
    for place, digest in enumerate(typed(value.get("encoders", []), list, "projection.encoders")):
        typed(digest, str, f"projection.encoders[{place}]")
    for name in ("steps", "seed"):
        typed(value[name], int, f"projection.{name}")
    for name in sorted(set(names) - {"steps", "precision"}):
        number(value[name], f"projection.{name}")
    typed(value["precision"], str, "projection.precision")
    one_of(value["lpips"], FEATURES, "projection.lpips")
    try:
        ProjectionConfig(**{name: value[name] for name in names})
    except ValueError as error:
        raise ValueError(f"projection: {error}") from error
    return value


def _read_population(value: Any) -> dict[str, Any]:
    """Free but for what is read of it."""
    if "psi" not in typed(value, dict, "population"):
        raise ValueError("population.psi: is missing")
    number(value["psi"], "population.psi")
    if "source_column" in value:
        typed(value["source_column"], str, "population.source_column")
    return value


def _read_strata(value: Any) -> list[dict[str, Any]]:
    for place, entry in enumerate(typed(value, list, "strata")):
        where = f"strata.{place}"
        require_keys(entry, [field.name for field in fields(Stratum)], where)
        one_of(entry["codec"], CODECS, f"{where}.codec")
        if entry["jpeg_quality"] is not None:
            whole(entry["jpeg_quality"], f"{where}.jpeg_quality", 1, 100)
        number(entry["scale"], f"{where}.scale", 1e-3, 1e3)
    if not value or any(value.count(entry) > 1 for entry in value):
        raise ValueError(f"strata: found {len(value)}, expected at least one and distinct ones")
    return value


def _read_scores(value: Any, names: Sequence[str], where: str) -> ScoreSet:
    require_keys(value, ["real", "generated", "other"], where)
    require_keys(value["generated"], names, f"{where}.generated")
    for name in typed(value["other"], dict, f"{where}.other"):
        matched(name, NAME, f"{where}.other")
    real = _read_units(value["real"], len(names), f"{where}.real")
    generated = [_read_units(value["generated"][name], len(names), f"{where}.generated.{name}") for name in names]
    other = {name: _read_units(units, len(names), f"{where}.other.{name}") for name, units in value["other"].items()}
    try:
        return ScoreSet(real, tuple(generated), other)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _read_units(units: Any, candidates: int, where: str) -> tuple[Unit, ...]:
    read = []
    for place, unit in enumerate(typed(units, list, where)):
        here = f"{where}.{place}"
        early = set(EARLY) & set(typed(unit, dict, here))
        require_keys(unit, [f.name for f in fields(Unit) if f.name not in EARLY or f.name in early], here)
        for key in ("name", "source", "split"):
            typed(unit[key], str, f"{here}.{key}")
        matched(unit["pixels_sha256"], SHA256, f"{here}.pixels_sha256")
        distances = numbers(unit["distances"], f"{here}.distances", candidates, 0, FARTHEST)
        found: dict[str, Any] = {"distances": distances}
        if early:
            require_keys(unit, [f.name for f in fields(Unit)], here)
            rows = enumerate(typed(unit["checkpoints"], list, f"{here}.checkpoints"))
            found["checkpoints"] = tuple(
                numbers(row, f"{here}.checkpoints.{i}", candidates, 0, FARTHEST) for i, row in rows
            )
            found["full"] = numbers(unit["full"], f"{here}.full", candidates, 0, FARTHEST)
        read.append(Unit(**{**unit, **found}))
    return tuple(read)


def _read_unreachable(
    value: Any, names: Sequence[str], expected: list[dict[str, str | None]]
) -> list[dict[str, str | None]]:
    """expected: what follows from the fitted numbers; the reasons' wording is the file's own."""
    for place, entry in enumerate(typed(value, list, "unreachable")):
        where = f"unreachable.{place}"
        require_keys(entry, ["code", "candidate", "why"], where)
        one_of(entry["code"], CODES, f"{where}.code")
        one_of(entry["candidate"], [*names, None], f"{where}.candidate")
        typed(entry["why"], str, f"{where}.why")
    found, follows = ([[entry["code"], entry["candidate"]] for entry in entries] for entries in (value, expected))
    if found != follows:
        raise ValueError(f"unreachable: found {found}, expected {follows} from the fitted numbers")
    return value


def _read_controls(value: Any, candidates: Sequence[CandidateRecord], checkpoints: int) -> tuple[Control, ...]:
    if len(typed(value, list, "controls")) > CONTROLS_AT_MOST:
        raise ValueError(f"controls: found {len(value)}, expected at most {CONTROLS_AT_MOST}")
    controls = [_read_control(entry, candidates, checkpoints, f"controls.{place}") for place, entry in enumerate(value)]
    kinds, hashes = [control.kind for control in controls], {control.pixels_sha256 for control in controls}
    if not {"generated", "real"} <= set(kinds) or len(hashes) < len(value):
        found = f"{kinds.count('generated')} generated and {kinds.count('real')} real images"
        raise ValueError(f"controls: found {found}, {len(hashes)} different ones, expected at least one of each, once")
    return tuple(controls)


def _read_control(value: Any, candidates: Sequence[CandidateRecord], checkpoints: int, where: str) -> Control:
    names = [c.name for c in candidates]
    require_keys(value, [f.name for f in fields(Control) if f.name != "checkpoints" or checkpoints], where)
    one_of(value["kind"], ["generated", "real"], f"{where}.kind")
    for key in ("name", "png_base64"):
        typed(value[key], str, f"{where}.{key}")
    sha256 = matched(value["pixels_sha256"], SHA256, f"{where}.pixels_sha256")
    _require_png(value["png_base64"], sha256, {c.resolution for c in candidates}, where)
    require_keys(value["distances"], names, f"{where}.distances")
    found = {name: number(d, f"{where}.distances.{name}", 0, FARTHEST) for name, d in value["distances"].items()}
    early = require_keys(value["checkpoints"], names, f"{where}.checkpoints") if checkpoints else {}
    early = {n: list(numbers(d, f"{where}.checkpoints.{n}", checkpoints, 0, FARTHEST)) for n, d in early.items()}
    return Control(**{**value, "distances": found, "checkpoints": early})


def _require_png(text: str, sha256: str, resolutions: set[int], where: str) -> None:
    """The base64 of a plain 8-bit RGB PNG of the candidates' size, with these pixels."""
    try:
        image = decode(base64.b64decode(text, validate=True), CONTROL_LIMITS)
    except (binascii.Error, ValueError) as error:  # ImageError is a ValueError, as is text that is not ASCII
        raise ValueError(f"{where}.png_base64: {error}, expected a PNG in base64") from error
    mode = image.transforms[0].get("mode")
    if image.format != "PNG" or mode != "RGB" or len(image.transforms) != 1:
        raise ValueError(f"{where}.png_base64: found {image.format} of mode {mode}, expected a plain 8-bit RGB PNG")
    if {image.width, image.height} != resolutions:
        found = f"found {image.width} x {image.height} pixels, expected the candidates' resolution"
        raise ValueError(f"{where}.png_base64: {found}, {', '.join(map(str, sorted(resolutions)))}")
    if (found := pixels_sha256(image.pixels)) != sha256:
        raise ValueError(f"{where}.pixels_sha256: found {sha256}, expected {found}, the hash of its PNG's pixels")


def _read_time(value: Any, where: str) -> str:
    try:
        datetime.fromisoformat(typed(value, str, where))
    except ValueError as error:
        raise ValueError(f"{where}: found {value!r:.60}, expected a date and time of ISO 8601") from error
    return value
