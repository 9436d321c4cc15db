"""From stored projections to what the report says of each image."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from attribution.calibration import Calibration, Evidence
from attribution.engine import projection_of
from attribution.intake import Stratum, Suspect, match_stratum
from attribution.report import CandidateEvidence, ImageReport, ImageVerdict, SearchEnd
from attribution.store import RunStore
from attribution.verdict import decide, inconclusive, out_of_scope
from attribution.wording import stopping_statement


def assemble_image(
    suspect: Suspect,
    strata: Sequence[Stratum],
    names: Sequence[str],
    order: Sequence[int],
    calibration: Calibration | None,
    rows: Mapping[str, CandidateEvidence],
    controls_hold: bool | None,
    truth: str | None,
) -> ImageReport:
    """The report's entry of one suspect.

    strata: one per candidate, none for an image without pixels. names: of the candidates; order: for each of the
    calibration's candidates, the place of ours. rows: the projections by candidate, without ratios; one that failed is
    left out. controls_hold: False makes every verdict that rests on the calibration INCONCLUSIVE.
    """
    refusal = suspect.refusal or _uncalibrated(strata, calibration)
    stratum = strata[0].label() if strata else None
    evidence, verdict, stopping = None, None, None
    if calibration is not None and not suspect.error and not refusal:
        stopping = _stopping([rows[names[place]] for place in order if names[place] in rows], calibration)
    if suspect.error:
        verdict = out_of_scope(suspect.error.message)
    elif refusal:
        verdict = out_of_scope(refusal)
    elif (failed := _failed(rows, names, stopping)) is not None:
        verdict = out_of_scope(failed)
    elif calibration is None:
        verdict = inconclusive("no calibration was given, so that the distances have nothing to be compared with")
    else:
        rows = _with_expectations(rows, names, order, calibration, stopping)
        evidence = calibration.evaluate([rows[names[place]].judged for place in order])
        rows = _with_ratios(rows, names, order, evidence)
        if controls_hold is False:
            verdict = inconclusive("the run controls drifted beyond the stated tolerance")
        else:
            known = [names[place] for place in order]
            verdict = decide(evidence, known, calibration.decision, calibration.alternative)
    return replace(_image_report(suspect, list(rows.values()), stratum, evidence, verdict, truth), stopping=stopping)


def _stopping(rows: Sequence[CandidateEvidence], calibration: Calibration) -> SearchEnd | None:
    """Where and why the searches of an image ended; rows: in the calibration's order, less those that failed."""
    rule, steps = calibration.stopping, int(calibration.projection["steps"])
    if rule is None or len(rows) < len(calibration.candidates):
        return None
    reached = checkpoint_distances(rows)
    place = rule.first_stop(reached)
    return SearchEnd(
        steps=steps if place is None else rule.steps[place],
        of=steps,
        leeway=[c.leeway_of(distances, rule.judge) for c, distances in zip(rule.checkpoints, reached, strict=False)],
        asked=[checkpoint.leeway for checkpoint in rule.checkpoints],
        statement=stopping_statement(place, rule, steps),
    )


def checkpoint_distances(rows: Sequence[CandidateEvidence]) -> list[list[float]]:
    """The rows' distances at each checkpoint that all of them reached."""
    return [[distance for _, distance in pairs] for pairs in zip(*(row.checkpoints for row in rows), strict=False)]


def stored_evidence(suspect: Suspect, names: Sequence[str], store: RunStore) -> dict[str, CandidateEvidence]:
    """The stored projections of a suspect by candidate; one that failed is left out."""
    if suspect.error or suspect.refusal:
        return {}
    records = {name: projection_of(store, str(suspect.pixels_sha256), name) for name in names}
    return {name: CandidateEvidence(**r) for name, r in records.items() if r and "failed" not in r}


def _uncalibrated(strata: Sequence[Stratum], calibration: Calibration | None) -> str | None:
    """Why the calibration does not cover an image history, None where it does."""
    if calibration is None:
        return None
    known = [Stratum.from_json(value) for value in calibration.strata]
    for stratum in strata:
        if match_stratum(stratum, known) is None:
            labels = "; ".join(s.label() for s in known)
            return f"its image history ({stratum.label()}) has no calibration; calibrated: {labels}"
    return None


def _failed(rows: Mapping[str, CandidateEvidence], names: Sequence[str], stopping: SearchEnd | None) -> str | None:
    """Why there is nothing to judge; a search that was stopped may well have come no closer yet."""
    early = stopping is not None and stopping.steps < stopping.of
    for name in names:
        row = rows.get(name)
        if row is None:
            return f"its projection into {name} failed: the distance is not finite"
        if row.lpips >= row.lpips_start and not early:
            return f"its projection into {name} failed: the distance is no better than at the start"
    return None


def _with_expectations(
    rows: Mapping[str, CandidateEvidence],
    names: Sequence[str],
    order: Sequence[int],
    calibration: Calibration,
    stopping: SearchEnd | None,
) -> Mapping[str, CandidateEvidence]:
    if stopping is None or stopping.steps == stopping.of:
        return rows
    known = [names[place] for place in order]
    expected = calibration.judged([rows[name].lpips for name in known], stopping.steps)
    return dict(rows) | {n: replace(rows[n], lpips_expected=d) for n, d in zip(known, expected, strict=True)}


def _with_ratios(
    rows: Mapping[str, CandidateEvidence], names: Sequence[str], order: Sequence[int], evidence: Evidence
) -> dict[str, CandidateEvidence]:
    filled = dict(rows)
    for k, place in enumerate(order):
        name = names[place]
        filled[name] = replace(
            rows[name],
            p_value_generated=evidence.p_value_generated[k],
            log10_lr_unbounded=evidence.log10_lr_unbounded[k],
            log10_lr=evidence.log10_lr[k],
            log10_lr_bounds=list(evidence.log10_lr_bounds[k]),
        )
    return filled


def _image_report(
    suspect: Suspect,
    rows: list[CandidateEvidence],
    stratum: str | None,
    evidence: Evidence | None,
    verdict: ImageVerdict,
    truth: str | None,
) -> ImageReport:
    return ImageReport(
        path=suspect.path,
        sha256=suspect.sha256,
        pixels_sha256=suspect.pixels_sha256,
        width=suspect.width,
        height=suspect.height,
        format=suspect.format,
        intake=[dict(step) for step in suspect.intake],
        candidates=rows,
        stratum=stratum,
        score=evidence.score if evidence else None,
        threshold=evidence.threshold if evidence else None,
        p_value_real=evidence.p_value_real if evidence else None,
        log10_margin=evidence.log10_margin if evidence else None,
        verdict=verdict,
        error=suspect.error,
        thumbnail=rows[0].target if rows else None,
        truth=truth,
        facts=suspect.facts,
    )


def run_id(started: str, images: Sequence[tuple[str, str | None]], settings: Mapping[str, Any]) -> str:
    """The run's id: 15 hexadecimal digits that follow from its start, its settings, and its suspects.

    images: (path, SHA-256) of each suspect; settings: JSON values.
    """
    content = json.dumps([started, images, settings], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:15]


def summarize(images: Sequence[ImageReport], names: Sequence[str]) -> dict[str, Any]:
    """Counts by verdict, by supported candidate, of errors and of different pixels."""
    supported = Counter(image.verdict.candidate for image in images if image.verdict.code == "SUPPORTS")
    grouped = Counter(n for i in images if i.verdict.code == "SUPPORTS_GROUP" for n in i.verdict.group or [])
    return {
        "images": len(images),
        "distinct_images": len({i.pixels_sha256 for i in images if i.pixels_sha256}),
        "errors": sum(image.error is not None for image in images),
        "verdicts": dict(sorted(Counter(image.verdict.code for image in images).items())),
        "supported": {name: supported[name] for name in names},
        "supported_in_group": {name: grouped[name] for name in names},
    }
