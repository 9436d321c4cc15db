"""A calibration file from outside: what is wrong is refused in one sentence that names the field, before any work."""

import base64
import json
import string
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attribution.calibration import load_calibration
from attribution.calibration_json import CALIBRATION_SCHEMA, content_id
from attribution.demo import demo_calibration
from attribution.evidence import DecisionSettings
from attribution.field_checks import DEEPEST, parse_json
from generator.images import encode_png
from tests.image_files import saved
from tests.simulated_scores import calibrated, score_set

CALIBRATION = calibrated(score_set(80, "c", 1.0, other=12), score_set(30, "v", 1.0, other=5), bootstrap=2)
CONTENT = CALIBRATION.to_json()


def with_id(content: dict[str, Any]) -> dict[str, Any]:
    """The content with an id that fits it: whoever forges a file can compute it too."""
    return content | {"id": content_id({key: value for key, value in content.items() if key != "id"})}


def edited(*path: Any, value: Any) -> dict[str, Any]:
    content = json.loads(json.dumps(CONTENT))
    *way, last = path
    at = content
    for step in way:
        at = at[step]
    at[last] = value
    return with_id(content)


def refusal(folder: Path, content: dict[str, Any] | bytes) -> str:
    file = folder / "cal.json"
    file.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    with pytest.raises(ValueError, match=r"cal\.json: ") as caught:
        load_calibration(file)
    return str(caught.value).split("cal.json: ", 1)[1]


def png(pixels: np.ndarray | bytes) -> str:
    return base64.b64encode(pixels if isinstance(pixels, bytes) else encode_png(pixels)).decode()


SQUARE, SMALL = np.zeros((64, 64, 3), np.uint8), np.zeros((17, 17, 3), np.uint8)
OTHER_TYPES: tuple[Any, ...] = (None, 7, "", [], {})
BEST = len(CALIBRATION.fitted.real_scores)

HOSTILE: list[tuple[tuple[Any, ...], Any, str]] = [
    (("controls", 0, "pixels_sha256"), "../../PWN", "controls.0.pixels_sha256: "),
    (("controls", 0, "pixels_sha256"), "A" * 64, "controls.0.pixels_sha256: "),
    (("controls", 0, "pixels_sha256"), "0" * 64, "controls.0.pixels_sha256: "),
    (("controls", 0, "png_base64"), png(SQUARE), "controls.0.pixels_sha256: "),
    (("controls", 0, "png_base64"), png(SMALL), "controls.0.png_base64: found 17 x 17"),
    (("controls", 0, "png_base64"), png(saved(SQUARE, "BMP")), "controls.0.png_base64: found BMP"),
    (("controls", 0, "png_base64"), png(saved(SQUARE[:, :, 0])), "controls.0.png_base64: found PNG of mode L"),
    (("controls", 0, "png_base64"), png(saved(np.zeros((1025, 1025, 3), np.uint8))), "controls.0.png_base64: "),
    (("controls", 0, "png_base64"), "AAAA", "controls.0.png_base64: "),
    (("controls", 0, "png_base64"), "ü", "controls.0.png_base64: "),
    (("controls", 0, "distances", "a"), -1.0, "controls.0.distances.a: "),
    (("controls",), [], "controls: found 0 generated and 0 real"),
    (("controls",), CONTENT["controls"][:1], "controls: found 1 generated and 0 real"),
    (("controls",), CONTENT["controls"] * 2, "controls: "),
    (("controls",), CONTENT["controls"] * 500, "controls: "),
    (("scores", "validation", "real", 2, "pixels_sha256"), "../x", "scores.validation.real.2.pixels_sha256: "),
    (("scores", "validation", "real"), [], "validation scores: found 0 images of real"),
    (("scores", "validation", "real"), CONTENT["scores"]["calibration"]["real"], "scores: found source"),
    (("scores", "calibration", "generated", "a"), [], "calibration scores: found 0 images of a"),
    (("scores", "calibration", "other"), {"<b>": []}, "scores.calibration.other: "),
    (("scores", "calibration", "real", 0, "distances", 0), 1e300, "scores.calibration.real.0.distances: "),
    (("scores", "calibration", "real", 0, "distances", 0), 1e-3, "fitted.real_scores: "),
    (("candidates", 0, "name"), "../../x", "candidates.0.name: "),
    (("candidates", 0, "sha256"), "aa", "candidates.0.sha256: "),
    (("candidates", 1, "sha256"), "a" * 64, "candidates: "),
    (("candidates", 0, "resolution"), 96, "candidates.0.resolution: "),
    (("candidates", 0, "resolution"), -64, "candidates.0.resolution: "),
    (("candidates", 0, "provenance"), {"original_sha256": ["x"]}, "candidates.0.provenance.original_sha256: "),
    (("projection",), {}, "projection.beta1: is missing"),
    (("projection", "surprise"), 1, "projection: found an unknown field"),
    (("projection", "steps"), 10**12, "projection: steps: "),
    (("projection", "steps"), 3.5, "projection.steps: "),
    (("projection", "rampup"), 0, "projection: rampup: "),
    (("projection", "w_noise_until"), 1.01, "projection: w_noise_until: "),
    (("projection", "max_lr"), "a", "projection.max_lr: "),
    (("projection", "lpips"), "squeeze", "projection.lpips: "),
    (("projection", "seed"), [1], "projection.seed: "),
    (("population",), {}, "population.psi: is missing"),
    (("population", "psi"), "<script>", "population.psi: "),
    (("strata",), [], "strata: "),
    (("strata", 0, "scale"), 0.0, "strata.0.scale: "),
    (("strata", 0, "codec"), "<script>", "strata.0.codec: "),
    (("strata", 0, "jpeg_quality"), 101, "strata.0.jpeg_quality: "),
    (("decision", "lambda"), 400.0, "decision: --lambda: "),
    (("decision", "alpha"), 0.999, "fitted.order_m: "),
    (("fitted", "order_m"), BEST, "fitted.order_m: "),
    (("fitted", "mads"), [0.0, 0.0], "fitted.mads: "),
    (("fitted", "medians", 1), CONTENT["fitted"]["medians"][1] + 1e-6, "fitted.medians: "),
    (("fitted", "real_scores"), [-99.0] * BEST, "fitted.real_scores: "),
    (("fitted", "threshold"), CONTENT["fitted"]["real_scores"][1], "fitted.threshold: "),
    (("fitted", "bounds", "a"), [-1e300, 1e300], "fitted.bounds.a: "),
    (("fitted", "bounds", "a"), [-1.0, 2.0], "fitted.bounds.a: "),  # 92 units can't show a ratio of 100
    (("fitted", "pair_bounds", "a|b"), [1.0, -1.0], "fitted.pair_bounds.a|b: "),
    (("fitted", "sets", "method"), "disjoint", "fitted.sets.method: "),
    (("fitted", "sets", "n_fit"), 10**6, "fitted.sets: "),
    (("fitted", "logistic", "scale", 0), 0.0, "fitted.logistic.scale: "),
    (("fitted", "logistic", "coef", 0), [1e308, 1e308], "fitted.logistic.coef: "),
    (("fitted", "logistic", "iterations"), None, "fitted.logistic.iterations: "),
    (("fitted", "logistic", "solver"), {"<script>": 1}, "fitted.logistic.solver: "),
    (("lineages", 0, "cllr_min"), 0.95, "lineages.0.one_lineage: "),
    (("lineages", 0, "cllr_min"), 0.5, "lineages.cllr_min: "),
    (("lineages",), CONTENT["lineages"] * 2, "lineages: "),
    (("unreachable",), [1], "unreachable.0: "),
    (("unreachable",), [{"code": "<b>", "candidate": None, "why": ""}], "unreachable.0.code: "),
    (("unreachable",), [{"code": "SUPPORTS", "candidate": "a", "why": "so"}], "unreachable: "),
    (("validation",), {}, "validation.bootstrap: is missing"),
    (("validation", "n", "real"), 7, "validation.n: "),
    (("validation", "candidates", "a", "cllr"), "x", "validation.candidates.a.cllr: "),
    (("validation", "candidates", "a", "log10_lr", "h1"), ["a"], "validation.candidates.a.log10_lr.h1: "),
    (("validation", "candidates", "a", "log10_lr", "h0", 0), -400.0, "validation.candidates.a.log10_lr.h0: "),
    (("validation", "threshold"), {}, "validation.threshold.confidence: is missing"),
    (("validation", "threshold", "false_positives"), 31, "validation.threshold.false_positives: "),
    (("validation", "verdicts", "a", "SUPPORTS_RIGHT"), 0, "validation.verdicts.a: "),
    (("validation", "verdicts"), {"<script>": {}}, "validation.verdicts.a: is missing"),
    (("created",), "<script>", "created: "),
    (("tool_version",), "\ud800", 'tool_version: found "\\ud800"'),
]


@pytest.mark.parametrize(("path", "value", "begins"), HOSTILE)
def test_a_forged_field_is_named_though_the_id_fits(tmp_path, path, value, begins):
    if "\ud800" in json.dumps(value, ensure_ascii=False):
        text = json.dumps(CONTENT).replace('"tool_version": "0.1.0"', '"tool_version": "\\ud800"')
        assert refusal(tmp_path, text.encode()).startswith(begins)
    else:
        assert refusal(tmp_path, edited(*path, value=value)).startswith(begins)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (key, value)
        for key in CONTENT
        for value in OTHER_TYPES
        if key not in ("id", "schema") and value != CONTENT[key] and (key, value) != ("tool_version", "")
    ],
)
def test_a_part_of_another_type_is_named(tmp_path: Path, key: str, value: Any) -> None:
    content = edited(key, value=value)
    assert key in refusal(tmp_path, content)
    assert refusal(tmp_path, with_id({k: v for k, v in content.items() if k != key})).startswith(
        f"calibration.{key}: is missing"
    )


@pytest.mark.parametrize(
    ("raw", "what"),
    [
        (b"[" * 200_000, "nested too deeply"),
        (b'{"schema": 1, "schema": 1}', "the key 'schema' twice"),
        (b'{"schema": 1e999}', "not finite"),
        (b'{"schema": -Infinity}', "not finite"),
        (b'{"schema": ' + b"9" * 5000 + b"}", "5000 digits"),
        (b"\xff\xfe\x00\x01", "utf-8"),
        (json.dumps(CONTENT).encode("utf-16"), "utf-8"),
        (b"\xef\xbb\xbf" + json.dumps(CONTENT).encode(), "BOM"),
        (json.dumps(CONTENT).encode()[:5000], "broken JSON"),
        (b'{"a": ' + b"[" * (DEEPEST + 1) + b"]" * (DEEPEST + 1) + b"}", f"more than {DEEPEST} levels"),
    ],
)
def test_what_is_no_plain_json_is_refused(tmp_path, raw, what):
    assert what in refusal(tmp_path, raw)


KEYS = st.text(string.printable, max_size=3)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**17), 10**17) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(PLAIN)
def test_plain_json_reads_as_python_reads_it(value):
    assert parse_json(json.dumps(value).encode()) == value


@given(PLAIN)
def test_no_content_raises_anything_but_a_sentence(tmp_path_factory, value):
    file = tmp_path_factory.getbasetemp() / "any.json"
    for content in (value, {"schema": CALIBRATION_SCHEMA, "id": value}, CONTENT | {"fitted": value}):
        file.write_text(json.dumps(content))
        with pytest.raises(ValueError, match=r"any\.json: "):
            load_calibration(file)


def test_a_number_written_in_another_way_is_not_what_save_wrote(tmp_path):
    assert refusal(tmp_path, edited("controls", 0, "distances", "a", value=1)).endswith("its parts as they are read")


def test_calibrations_of_every_kind_still_load(tmp_path):
    large = calibrated(score_set(520, "c", 3.0), score_set(100, "v", 3.0), DecisionSettings(), bootstrap=2)
    alone = calibrated(score_set(80, "c", 1.0, candidates=1), score_set(20, "v", 1.0, candidates=1), bootstrap=2)
    twelve = replace(CALIBRATION, population={"psi": 1, "seed": 0, "splits": ["x"], "samples": None})
    assert large.fitted.sets["method"] == "disjoint"
    for calibration in (CALIBRATION, large, alone, twelve):
        calibration.save(tmp_path / "cal.json")
        assert load_calibration(tmp_path / "cal.json") == calibration
    assert demo_calibration().names == ["emoji-a", "emoji-b"]
