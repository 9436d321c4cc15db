import json

import numpy as np
import pytest

from attribution.threshold import auc
from tests.simulated_scores import calibrated, score_set


@pytest.fixture(scope="module")
def mixed():
    """Two candidates that overlap with the real images and with each other."""
    return calibrated(score_set(80, "c", 0.8, other=20), score_set(40, "v", 0.8, other=10))


def test_every_image_is_counted_once_by_truth(mixed):
    verdicts = mixed.validation["verdicts"]
    assert {truth: sum(row.values()) for truth, row in verdicts.items()} == {"a": 40, "b": 40, "real": 40, "cousin": 10}
    assert mixed.validation["n"] == {"real": 40, "generated": {"a": 40, "b": 40}, "other": {"cousin": 10}}


def test_support_for_anyone_is_wrong_where_no_candidate_made_the_image(mixed):
    verdicts = mixed.validation["verdicts"]
    assert verdicts["real"]["SUPPORTS_RIGHT"] == verdicts["cousin"]["SUPPORTS_RIGHT"] == 0
    assert verdicts["a"]["SUPPORTS_RIGHT"] > 10


def test_false_positives_are_the_real_images_above_the_threshold(mixed):
    found = mixed.validation["threshold"]
    above = [mixed.evaluate(u.distances).score > mixed.fitted.threshold for u in mixed.scores["validation"].real]
    assert found["false_positives"] == sum(above) and found["fpr"] == sum(above) / 40
    assert found["fpr_upper"] > max(found["fpr"], 0.07)  # 40 images can't show less than 1 - 0.05^(1/40)


def test_figures_have_intervals_around_them(mixed):
    for figures in mixed.validation["candidates"].values():
        for name in ("cllr", "cllr_min", "cllr_cal", "auc", "eer"):
            assert figures[name]["low"] < figures[name]["high"]
        cost = figures["cllr"]["value"]
        assert 0 < figures["cllr_min"]["value"] <= cost < 1
        assert figures["cllr_cal"]["value"] == pytest.approx(cost - figures["cllr_min"]["value"])
        assert not figures["separated"]


def test_auc_is_of_the_distances_to_real_images(mixed):
    scores = mixed.scores["validation"]
    expected = auc([-u.distances[1] for u in scores.generated[1]], [-u.distances[1] for u in scores.real])
    assert mixed.validation["candidates"]["b"]["auc"]["value"] == expected


def test_rates_that_so_few_images_cannot_show_are_null(mixed):
    rates = mixed.validation["candidates"]["a"]["tpr_at_fpr"]
    assert rates["0.01"] is None and 0 < rates["0.05"] <= 1


def test_ratios_of_the_plots_are_the_bounded_ones(mixed):
    ratios = mixed.validation["candidates"]["a"]["log10_lr"]
    scores = mixed.scores["validation"]
    assert ratios["h1"] == sorted(mixed.evaluate(u.distances).log10_lr[0] for u in scores.generated[0])
    assert len(ratios["h0"]) == 50 and ratios == {k: sorted(v) for k, v in ratios.items()}


def test_separated_classes_are_said_to_be():
    figures = calibrated(score_set(60, "c", 8.0), score_set(30, "v", 8.0)).validation
    assert figures["candidates"]["a"]["separated"]
    assert figures["candidates"]["a"]["auc"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert figures["candidates"]["a"]["cllr"]["value"] < 0.1
    assert figures["verdicts"]["real"]["NOT_SUPPORTED"] == 30 and figures["threshold"]["false_positives"] == 0


def test_figures_are_plain_json(mixed):
    assert json.loads(json.dumps(mixed.validation, allow_nan=False)) == mixed.validation


def test_intervals_hold_what_a_larger_sample_shows():
    small, large = score_set(60, "v", 0.8, candidates=1), score_set(1_000, "w", 0.8, candidates=1)
    calibration = score_set(80, "c", 0.8, candidates=1)
    found = calibrated(calibration, small, bootstrap=200).validation["candidates"]["a"]
    truth = calibrated(calibration, large, bootstrap=2).validation["candidates"]["a"]
    for name in ("cllr", "auc", "eer"):
        assert found[name]["low"] < truth[name]["value"] < found[name]["high"]
        assert not np.isclose(found[name]["low"], found[name]["high"])
