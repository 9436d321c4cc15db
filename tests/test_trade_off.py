"""The trade-off's tables and curve on simulated calibrations and studies."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.benchmarks.trade_off import curve, curve_figure, curve_table, methods_table
from tests.simulated_scores import score_set
from tests.test_stopping import calibrated, with_checkpoints


def test_the_curve_goes_from_the_first_checkpoint_to_all_steps() -> None:
    noise = (1.5, 0.2)
    points = curve(calibrated(with_checkpoints(score_set(150, "c", 2.0), noise), len(noise)))
    assert [p.label for p in points] == ["all at 4", "all at 8", "the rule", "all steps"]
    assert points[-1].same == 1.0 and points[-1].steps == 20
    assert points[0].auc["a vs real"] < points[1].auc["a vs real"] <= points[-1].auc["a vs real"]
    assert points[0].same < points[2].same and 8 <= points[2].steps < 20
    assert len(curve_table(points).splitlines()) == 6
    svg = ElementTree.fromstring(curve_figure(points))
    assert len(svg.findall(".//{http://www.w3.org/2000/svg}circle")) == 8


def test_studies_of_the_same_images_are_compared(tmp_path: Path) -> None:
    def study(name: str, verdicts: list[str], steps: int) -> Path:
        units = [
            {"name": f"{i}.png", "truth": "a" if i < 2 else "real", "verdict": v, "steps": steps}
            for i, v in enumerate(verdicts)
        ]
        (tmp_path / name).mkdir()
        content = {"units": units, "separations": [{"auc": 0.99}]}
        (tmp_path / name / "separation.json").write_text(json.dumps(content))
        return tmp_path / name

    default = study("default", ["SUPPORTS", "INCONCLUSIVE", "NOT_SUPPORTED"], 12)
    paper = study("paper", ["SUPPORTS", "SUPPORTS", "NOT_SUPPORTED"], 1000)
    table = methods_table(default, paper)
    assert "| default | 12.0 | 0.9900 | INCONCLUSIVE 1, SUPPORTS 1 | NOT_SUPPORTED 1 |" in table
    assert table.endswith("Equal verdicts: 2 of 3.")
    with pytest.raises(ValueError, match="found different images"):
        methods_table(default, study("other", ["SUPPORTS"], 9))
