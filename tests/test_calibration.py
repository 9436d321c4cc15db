import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attribution.calibration import DecisionSettings, load_calibration
from attribution.calibration_json import content_id
from attribution.fitting import fit
from attribution.scores import ScoreSet
from attribution.verdict import decide
from tests.simulated_scores import FEW, calibrated, score_set, units

CALIBRATION = calibrated(score_set(80, "c", 1.0, other=12), score_set(30, "v", 1.0, other=5))
DISTANCES = st.lists(st.floats(0.001, 2.0), min_size=2, max_size=2)


def verdict(calibration, distances):
    evidence = calibration.evaluate(distances)
    return decide(evidence, calibration.names, calibration.decision, calibration.alternative)


def test_score_is_the_largest_robust_closeness():
    own = [np.log(d[:, k]) for k, d in enumerate(CALIBRATION.scores["calibration"].generated_distances)]
    medians = [np.median(x) for x in own]
    mads = [np.median(abs(x - m)) for x, m in zip(own, medians, strict=True)]
    evidence = CALIBRATION.evaluate([0.2, 0.05])
    closeness = [(medians[k] - np.log(d)) / mads[k] for k, d in enumerate([0.2, 0.05])]
    assert evidence.score == pytest.approx(max(closeness)) and evidence.k_star == np.argmax(closeness)


def test_threshold_is_the_real_score_that_the_order_names():
    reals = CALIBRATION.scores["calibration"].real
    scores = sorted((CALIBRATION.evaluate(u.distances).score for u in reals), reverse=True)
    assert CALIBRATION.fitted.order_m == 1  # of 80 reals at 5 %
    assert CALIBRATION.fitted.threshold == pytest.approx(scores[0])


def test_p_values_count_the_calibration_images():
    scores = CALIBRATION.scores["calibration"]
    evidence = CALIBRATION.evaluate([0.09, 0.2])
    for k, d in enumerate([0.09, 0.2]):
        as_far = sum(unit.distances[k] >= d for unit in scores.generated[k])
        assert evidence.p_value_generated[k] == (1 + as_far) / 81
    as_close = sum(CALIBRATION.evaluate(u.distances).score >= evidence.score for u in scores.real)
    assert evidence.p_value_real == (1 + as_close) / 81


@given(DISTANCES)
def test_reported_ratios_stay_within_their_bounds(distances):
    evidence = CALIBRATION.evaluate(distances)
    limit = np.log10(93)  # 80 reals and 12 others: no ratio goes beyond what they can show
    for ratio, free, (low, high) in zip(
        evidence.log10_lr, evidence.log10_lr_unbounded, evidence.log10_lr_bounds, strict=True
    ):
        assert ratio == min(max(free, low), high)
        assert -np.log10(81) - 1e-9 <= low <= 0 <= high <= limit + 1e-9
    assert evidence.log10_margin == min(evidence.pairwise.values())
    assert set(evidence.pairwise) == {1 - evidence.k_star}
    assert (len(evidence.group) == 2) == (evidence.log10_margin < CALIBRATION.decision.mu)


@given(DISTANCES, st.floats(0.5, 0.99))
def test_a_closer_image_has_a_higher_score_and_fits_no_worse(distances, factor):
    far, close = CALIBRATION.evaluate(distances), CALIBRATION.evaluate([d * factor for d in distances])
    assert close.score > far.score and close.p_value_real <= far.p_value_real
    assert all(c >= f for c, f in zip(close.p_value_generated, far.p_value_generated, strict=True))


def test_with_one_candidate_a_smaller_distance_is_stronger_evidence_and_there_is_no_margin():
    alone = calibrated(score_set(80, "c", 1.0, candidates=1), score_set(20, "v", 1.0, candidates=1))
    ratios = [alone.evaluate([d]).log10_lr[0] for d in np.linspace(0.001, 1, 30)]
    assert np.all(np.diff(ratios) <= 0) and ratios[0] > 1 > -1 > ratios[-1]
    assert alone.evaluate([0.05]).log10_margin is None and alone.evaluate([0.05]).group == (0,)
    assert verdict(alone, [0.05]).code == "SUPPORTS"


def test_order_of_candidates_only_permutes():
    def swapped(scores: ScoreSet) -> ScoreSet:
        def turn(group):
            return tuple(replace(u, distances=u.distances[::-1]) for u in group)

        return ScoreSet(
            turn(scores.real), (turn(scores.generated[1]), turn(scores.generated[0])),
            {name: turn(group) for name, group in scores.other.items()},
        )  # fmt: skip

    parts = CALIBRATION.scores
    mirror = calibrated(swapped(parts["calibration"]), swapped(parts["validation"]))
    for distances in ([0.05, 0.2], [0.2, 0.06], [0.05, 0.06], [0.3, 0.3], [0.12, 0.13]):
        straight, turned = CALIBRATION.evaluate(distances), mirror.evaluate(distances[::-1])
        assert turned.k_star == 1 - straight.k_star
        assert (turned.score, turned.threshold) == (straight.score, straight.threshold)
        assert turned.p_value_generated == straight.p_value_generated[::-1]
        np.testing.assert_allclose(turned.log10_lr, straight.log10_lr[::-1], atol=1e-5)
        assert turned.log10_margin == pytest.approx(straight.log10_margin, abs=1e-5)


@pytest.mark.parametrize("distances", [[0.1], [0.1, float("nan")], [0.1, -1.0], [float("inf"), 0.1]])
def test_distances_that_are_none_are_refused(distances):
    with pytest.raises(ValueError, match="distances"):
        CALIBRATION.evaluate(distances)


def test_a_perfect_re_synthesis_is_finite_evidence():
    assert np.isfinite(CALIBRATION.evaluate([0.0, 0.2]).score)
    assert verdict(CALIBRATION, [0.0, 0.2]).code == "SUPPORTS"


def test_file_gives_back_the_same_calibration_and_the_same_bytes(tmp_path):
    CALIBRATION.save(tmp_path / "a.json")
    loaded = load_calibration(tmp_path / "a.json")
    loaded.save(tmp_path / "b.json")
    assert loaded == CALIBRATION and loaded.id == CALIBRATION.id
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert loaded.evaluate([0.08, 0.2]) == CALIBRATION.evaluate([0.08, 0.2])


def edit(content, *path, value):
    """The content with the value at a path replaced, and an id that fits it again."""
    content = json.loads(json.dumps(content))
    *way, last = path
    at = content
    for step in way:
        at = at[step]
    at[last] = value
    return content | {"id": content_id({k: v for k, v in content.items() if k != "id"})}


BROKEN = [
    (("schema",), "latentprint.calibration/2", "schema"),
    (("decision", "alpha"), 1.5, "alpha"),
    (("decision", "alpha"), "0.05", r"decision\.alpha"),
    (("candidates",), [], "candidates"),
    (("candidates", 1, "name"), "a", "distinct"),
    (("strata", 0, "codec"), 3, "strata"),
    (("scores", "validation", "real", 0, "distances"), [0.1], "distances"),
    (("scores", "calibration", "real", 0, "distances", 1), -0.1, "distance"),
    (("scores", "calibration", "generated", "c"), [], r"generated: .*'c'"),
    (("fitted", "threshold"), 99.0, "threshold"),
    (("fitted", "n_real"), 79, "real_scores"),
    (("fitted", "medians"), [0.1], "medians"),
    (("fitted", "mads", 0), True, "mads"),
    (("fitted", "bounds", "a"), [0.5, 1.0], r"bounds\.a"),
    (("fitted", "pair_bounds"), {}, r"pair_bounds"),
    (("fitted", "logistic", "coef"), [[1.0, 2.0]], "logistic"),
    (("fitted", "logistic", "intercept", 0), None, "intercept"),
    (("controls", 0, "kind"), "fake", "kind"),
    (("controls", 0, "png_base64"), "?", "base64"),
    (("controls", 0, "distances"), {"a": 0.1}, "distances"),
    (("lineages",), [], "lineages"),
    (("surprise",), 1, "surprise"),
]


@pytest.mark.parametrize(("path", "value", "named"), BROKEN)
def test_a_file_of_another_form_is_refused_with_what_is_wrong(tmp_path, path, value, named):
    file = tmp_path / "broken.json"
    file.write_text(json.dumps(edit(CALIBRATION.to_json(), *path, value=value)))
    with pytest.raises(ValueError, match=rf"broken\.json: .*{named}"):
        load_calibration(file)


def test_an_edit_that_keeps_the_form_is_caught_by_the_id(tmp_path):
    content = CALIBRATION.to_json()
    content["fitted"]["bounds"]["a"] = [-3.0, 3.0]
    (tmp_path / "edited.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"edited\.json: id: .*changed"):
        load_calibration(tmp_path / "edited.json")


@pytest.mark.parametrize("text", ["", "[]", "{", "null", '{"schema": NaN}', "\xff"])
def test_what_is_not_a_calibration_is_refused(tmp_path, text):
    (tmp_path / "x.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"x\.json: found broken JSON|x\.json: schema"):
        load_calibration(tmp_path / "x.json")
    with pytest.raises(ValueError, match="no such file"):
        load_calibration(tmp_path / "y.json")


def test_too_few_real_sources_name_the_number_that_will_do():
    with pytest.raises(ValueError, match=r"found 58 real sources.*at least 59"):
        calibrated(score_set(58, "c", 1.0), score_set(20, "v", 1.0))
    with pytest.raises(ValueError, match=r"found 80 real sources.*at least 299"):
        calibrated(score_set(80, "c", 1.0), score_set(20, "v", 1.0), DecisionSettings())


def test_calibration_and_validation_share_no_source():
    scores = score_set(80, "c", 1.0)
    with pytest.raises(ValueError, match=r"source cr0 in calibration and in validation"):
        calibrated(scores, replace(score_set(20, "v", 1.0), real=scores.real[:1]))
    namesake = replace(units([[0.1, 0.1]], "o")[0], source="vr0")  # of a real image of validation: another class
    assert calibrated(
        replace(scores, other={"cousin": (namesake,)}), score_set(20, "v", 1.0), bootstrap=2
    ).other_names == ["cousin"]


def test_an_image_is_in_one_set_and_one_class():
    scores, validation = score_set(80, "c", 1.0), score_set(20, "v", 1.0)
    again = replace(scores.real[3], name="copy.png", source="new")
    for place, held, changed in (
        ("validation images of real", scores, replace(validation, real=(*validation.real, again))),
        ("validation images of b", scores, replace(validation, generated=(validation.generated[0], (again,)))),
        ("calibration images of cousin", replace(scores, other={"cousin": (again,)}), validation),
    ):
        with pytest.raises(ValueError, match=rf"pixels of cr3.png .calibration images of real. again .*{place}"):
            calibrated(held, changed)


def test_an_empty_class_and_a_name_that_means_the_population_are_refused():
    with pytest.raises(ValueError, match="validation scores: found 0 images of b"):
        scores = score_set(20, "v", 1.0)
        calibrated(score_set(80, "c", 1.0), replace(scores, generated=(scores.generated[0], ())))
    with pytest.raises(ValueError, match="found the name real twice"):
        other = {"real": units([[0.1, 0.1]], "o")}
        calibrated(replace(score_set(80, "c", 1.0), other=other), score_set(20, "v", 1.0))


@pytest.mark.parametrize("setting", ["alpha", "delta", "epsilon"])
@pytest.mark.parametrize("value", [0, 1, float("nan")])
def test_settings_that_are_no_probability_are_refused(setting, value):
    with pytest.raises(ValueError, match=f"--{setting}"):
        DecisionSettings(**{setting: value})


@pytest.mark.parametrize("value", [-1, float("nan"), float("inf")])
def test_settings_that_are_no_ratio_are_refused(value):
    with pytest.raises(ValueError, match="--lambda"):
        DecisionSettings(lambda_=value)


def test_other_generators_belong_to_the_alternative_and_weaken_the_ratios():
    without = calibrated(replace(CALIBRATION.scores["calibration"], other={}), CALIBRATION.scores["validation"])
    assert CALIBRATION.other_names == ["cousin"] and "cousin" in CALIBRATION.alternative
    assert without.alternative == "it came from the calibration's population of known real images"
    distances = [0.13, 0.2]  # as close as the cousin's images come
    assert CALIBRATION.evaluate(distances).log10_lr[0] < without.evaluate(distances).log10_lr[0]
    assert CALIBRATION.fitted.threshold == without.fitted.threshold  # only reals set it


def test_what_can_not_be_reached_is_named():
    demanding = calibrated(score_set(80, "c", 3.0), score_set(20, "v", 3.0), replace(FEW, lambda_=2.0, epsilon=0.01))
    reasons = {(u["code"], u["candidate"]): u["why"] for u in demanding.unreachable}
    assert "goes up to 1.9" in reasons["SUPPORTS", "a"] and ("SUPPORTS_GROUP", "b") in reasons
    assert "80 images of" in reasons["UNRESOLVED", None] and ("NOT_SUPPORTED", None) in reasons
    assert calibrated(score_set(80, "c", 3.0), score_set(20, "v", 3.0)).unreachable == []


def test_two_checkpoints_of_one_run_are_one_lineage():
    def twins(n, prefix):
        rng = np.random.default_rng(len(prefix) + n)
        near = [np.exp(rng.normal(-2.8, 0.3, (n, 1)) + rng.normal(0, 0.02, (n, 2))) for _ in "ab"]
        real = np.exp(rng.normal(-1.5, 0.3, (n, 2)))
        return ScoreSet(units(real, f"{prefix}r"), (units(near[0], f"{prefix}a"), units(near[1], f"{prefix}b")))

    calibration = calibrated(twins(80, "c"), twins(20, "v"))
    (tested,) = calibration.lineages
    assert tested["pair"] == ["a", "b"] and tested["one_lineage"] and tested["cllr_min"] >= 0.9
    found = verdict(calibration, [0.05, 0.051])
    assert (found.code, found.group) == ("SUPPORTS_GROUP", ["a", "b"])
    assert ("SUPPORTS", "a") in {(u["code"], u["candidate"]) for u in calibration.unreachable}
    assert not CALIBRATION.lineages[0]["one_lineage"]


def test_six_hundred_reals_fit_bound_and_set_the_threshold_apart():
    decision = DecisionSettings()
    large = calibrated(score_set(520, "c", 3.0), score_set(100, "v", 3.0), decision, bootstrap=2)
    assert large.fitted.sets["method"] == "disjoint" and large.fitted.sets["n_threshold"] == 312
    assert 2.0 <= large.fitted.bounds[0][1] <= np.log10(106)  # what the 104 real images of the bound set can show
    small = calibrated(score_set(520, "c", 3.0), score_set(79, "v", 3.0), decision, bootstrap=2)
    assert small.fitted.sets["method"] == "cross-fitted" and len(small.fitted.real_scores) == 520


@pytest.mark.slow
def test_the_false_positive_rate_holds_for_all_candidates_together():
    rates = []
    for seed in range(12):
        fitted = fit(score_set(93, "c", 1.0, candidates=3, seed=seed), FEW, disjoint=False, seed=0)
        fresh = score_set(2_000, "f", 1.0, candidates=3, seed=seed).real_distances
        rates.append(np.mean(fitted.flag_scores(fresh)[0] > fitted.threshold))
    assert sum(rate > 0.05 for rate in rates) <= 2  # P(3 of 12) = 2 % where each has a risk of delta
    assert np.mean(rates) == pytest.approx(2 / 94, abs=0.012)  # the second largest of 93


def test_summary_has_no_pixels_and_no_names_of_images():
    summary = json.dumps(CALIBRATION.public_summary(), allow_nan=False)
    assert "png_base64" not in summary and "cr0.png" not in summary
    found = CALIBRATION.public_summary()
    assert found["id"] == CALIBRATION.id and found["n"]["calibration"]["real"] == 80
    assert found["distances"]["validation"]["real"][3] == list(CALIBRATION.scores["validation"].real[3].distances)


def test_the_same_input_gives_the_same_id_and_another_seed_another():
    again = calibrated(CALIBRATION.scores["calibration"], CALIBRATION.scores["validation"])
    assert again.id == CALIBRATION.id and len(again.id) == 16
    assert calibrated(score_set(80, "c", 1.0, seed=1), score_set(30, "v", 1.0)).id != CALIBRATION.id


def test_populations_that_json_does_not_have_are_refused():
    with pytest.raises(ValueError, match=r"finite|JSON"):
        replace(CALIBRATION, population={"psi": float("nan")}).id  # noqa: B018
