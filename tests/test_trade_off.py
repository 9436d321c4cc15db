"""The trade-off's table and curve on a simulated calibration, and the comparison of methods on simulated verdicts."""

from xml.etree import ElementTree

import pytest

from tests.benchmarks import early_stops
from tests.benchmarks.methods import Examined, curve_of, tables
from tests.benchmarks.trade_off import curve, curve_figure, curve_table, kept
from tests.simulated_scores import score_set
from tests.test_stopping import calibrated, with_checkpoints


def test_the_curve_goes_from_the_first_checkpoint_to_all_steps() -> None:
    noise = (1.5, 0.2)
    calibration = calibrated(with_checkpoints(score_set(150, "c", 2.0), noise), len(noise))
    points = curve(calibration)
    assert [p.label for p in points] == ["all at 4", "all at 8", "the rule", "all steps"]
    assert points[-1].same == {"same verdict": 1.0} and points[-1].cost == 20
    first, second, rule, full = (p.auc["AUC a vs real"] for p in points)
    assert first < second <= full and first < rule
    assert points[0].same["same verdict"] < points[2].same["same verdict"] and 8 <= points[2].cost < 20
    assert len(curve_table(points).splitlines()) == 6
    stopped, same = (int(word) for word in kept(calibration).split() if word.isdigit())
    assert 0.9 * stopped <= same <= stopped and stopped > 60
    svg = ElementTree.fromstring(curve_figure(points))
    assert len(svg.findall(".//{http://www.w3.org/2000/svg}circle")) == 12


def test_methods_are_compared_on_the_same_images() -> None:
    def examined(steps: int, distances: list[float], verdicts: list[str]) -> dict[str, Examined]:
        truths = ["emoji-a", "emoji-a", "real", "real", "emoji-b"]
        found = zip(truths, distances, verdicts, strict=True)
        return {f"{t}/{i}.png": Examined(t, d, v, steps) for i, (t, d, v) in enumerate(found)}

    paper = examined(1000, [0.01, 0.02, 0.3, 0.4, 0.1], ["SUPPORTS", "SUPPORTS", *["NOT_SUPPORTED"] * 3])
    default = examined(
        30, [0.1, 0.35, 0.3, 0.4, 0.2], ["NOT_SUPPORTED", "INCONCLUSIVE", *["NOT_SUPPORTED"] * 2, "UNRESOLVED"]
    )
    header, _, first, last = tables({"default": default, "paper": paper}, {"default": 1.5}).splitlines()
    assert header.startswith("| method | mean steps | s an image | AUC A vs real | AUC A vs B |")
    assert first.startswith("| default | 30.0 | 1.50 | 0.7500 | 0.5000 | 0.2250 | 0.3500 | 0.2000 |")
    assert first.endswith("| INCONCLUSIVE 1, NOT_SUPPORTED 1 | NOT_SUPPORTED 2 | UNRESOLVED 1 | 2 of 5 | 3 of 5 | 1 |")
    assert last.startswith("| paper | 1000.0 | – | 1.0000 | 1.0000 |") and last.endswith("| 5 of 5 | 5 of 5 | 0 |")
    points = curve_of({"default": default, "paper": paper}, {})
    assert [(p.label, p.cost, p.auc["AUC emoji-a vs real"]) for p in points] == [
        ("default", 30, 0.75),
        ("paper", 1000, 1.0),
    ]
    assert points[0].same == {"same verdict": 0.4, "attributed alike": 0.6}
    assert points[1].same == {"same verdict": 1.0, "attributed alike": 1.0}
    timed = curve_of({"default": default, "paper": paper}, {"default": 1.5, "paper": 0.5})
    assert [(p.label, p.cost) for p in timed] == [("paper", 0.5), ("default", 1.5)]
    with pytest.raises(ValueError, match="found default with other images"):
        tables({"default": {}, "paper": paper}, {})


def test_early_stops_are_compared_with_all_steps_image_by_image() -> None:
    stopped = {"a/0.png": ("a", "SUPPORTS a", 3.0), "real/0.png": ("real", "UNRESOLVED", 6.0)}
    full = {"a/0.png": ("a", "SUPPORTS a", 30.0), "real/0.png": ("real", "NOT_SUPPORTED", 30.0)}
    _, _, first, last = early_stops.table({"the rule": stopped, "all": full}, {"the rule": 3, "all": 20}).splitlines()
    assert first == "| the rule | 4.5 | 1.50 | SUPPORTS a 1 | UNRESOLVED 1 | 1 of 2 |"
    assert last == "| all | 30.0 | 10.00 | SUPPORTS a 1 | NOT_SUPPORTED 1 | 2 of 2 |"
