"""Stopping early: what a rule promises, that searches can be interrupted and regrouped, and what a case says of it."""

import base64
import io
import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from attribution import ProjectionConfig, load_calibration, project
from attribution.calibration import Calibration, fit_calibration
from attribution.calibration_json import canonical_json, content_id
from attribution.engine import load_candidates
from attribution.pipeline import candidate_record
from attribution.projector import Projection, image_seed, latent_statistics, results
from attribution.report import CandidateRecord
from attribution.scores import ScoreSet, Unit
from attribution.search import Batch, Searcher, begin
from attribution.stopped_search import Wanted, Watch, search_images
from attribution.stopping import StoppingRule, along, fit_stopping, forecast
from generator import LPIPS, load_generator
from generator.images import to_unit
from generator.sampling import sample_images
from reports.case import read_report, write_report
from tests.cases import tiny_generator, write_reals, write_samples
from tests.commands import run_command as run
from tests.simulated_scores import FEW, STRATA, control, score_set

STEPS = (4, 8, 16)
TOTAL = 10  # steps of the searches here: checkpoints after 1, 2, 4, 5 and 7


def with_checkpoints(scores: ScoreSet, noise: tuple[float, ...], seed: int = 0) -> ScoreSet:
    """Units whose log distances at each checkpoint are the final ones with so much noise."""
    rng = np.random.default_rng(seed)

    def early(unit: Unit) -> Unit:
        logs = [np.log(unit.distances) + rng.normal(0, s, len(unit.distances)) for s in noise]
        rows = tuple(tuple(np.exp(row).tolist()) for row in logs)
        return replace(unit, checkpoints=rows, full=unit.distances)

    return scores.map(early)


def fitted(noise: tuple[float, ...], n: int = 150, separation: float = 2.0) -> StoppingRule | None:
    scores = with_checkpoints(score_set(n, "c", separation), noise)
    return fit_stopping(scores, STEPS[: len(noise)], FEW, 0)


def test_what_is_known_early_stops_early() -> None:
    rule = fitted((0.01, 0.01, 0.01))
    assert rule and rule.checkpoints[0].stopped > 400 and rule.units == 450
    assert rule.first_stop([(0.2, 0.03)]) == 0 and rule.first_stop([(0.2, 0.2)]) == 0


def test_nothing_stops_where_early_distances_say_nothing() -> None:
    rule = fitted((3.0, 0.01))
    assert rule and rule.checkpoints[0].leeway is None and rule.checkpoints[0].stopped == 0
    assert rule.checkpoints[1].stopped > 400
    assert rule.first_stop([(0.2, 0.001), (0.2, 0.03)]) == 1 and rule.first_stop([(0.2, 0.001)]) is None
    assert fitted((3.0,)) is None


def test_an_image_that_stops_is_judged_by_the_line_through_the_calibration_images() -> None:
    scores = with_checkpoints(score_set(150, "c", 2.0), (0.2,))
    scores = scores.map(lambda u: replace(u, checkpoints=(tuple(3 * d**0.5 for d in u.checkpoints[0]),)))
    rule = fit_stopping(scores, STEPS[:1], FEW, 0)
    assert rule is not None
    stopped = next(unit for unit in scores.units if rule.first_stop(unit.checkpoints) == 0)
    for k, expected in enumerate(rule.apply(stopped).distances):
        here = np.log([unit.checkpoints[0][k] for unit in scores.units])
        line = np.polyfit(here, np.log([unit.full[k] for unit in scores.units]), 1)
        assert np.log(expected) == pytest.approx(np.polyval(line, np.log(stopped.checkpoints[0][k])), rel=1e-9)
    going_on = next(unit for unit in scores.units if rule.first_stop(unit.checkpoints) is None)
    assert rule.apply(going_on).distances == going_on.full
    assert rule.expected((0.2, 0.3), 20) == (0.2, 0.3)


def test_expected_distances_stay_finite_and_equal_ones_say_how_much_farther() -> None:
    same, ended = np.full((5, 1), 0.3), np.linspace(0.1, 0.2, 5)[:, None]
    ((a, b),) = forecast(same, ended)
    assert b == 1.0 and a == pytest.approx(np.log(ended).mean() - np.log(0.3))
    assert np.all(np.isfinite(along([(0.0, 1000.0)], np.array([[0.0], [2.0]]))))


def test_few_images_give_no_rule() -> None:
    assert fitted((0.01,), n=60) is None  # four fifths of them are fewer than alpha = 5 % needs
    scores = score_set(90, "c", 2.0, other=200)  # others stand beside the real ones, and take none away
    assert fit_stopping(with_checkpoints(scores, (0.01,)), STEPS[:1], FEW, 0) is not None


def test_a_search_that_failed_stops_nothing() -> None:
    """A distance that is not finite leaves no verdict that could be sure."""
    rule = fitted((0.01,))
    assert rule and rule.stops(0, [0.2, 0.03])
    assert not any(rule.stops(0, [bad, 0.03]) for bad in (math.nan, math.inf))


def test_verdicts_of_other_images_stay_as_the_rule_says() -> None:
    """Of fresh images that stop, at most 2 % have another verdict after all steps, up to chance."""
    noise = (0.5, 0.2)
    calibration = calibrated(with_checkpoints(score_set(150, "c", 2.0), noise), len(noise))
    full = calibration.without_stopping()
    rule = calibration.stopping
    assert rule is not None
    stopped = changed = 0
    for unit in with_checkpoints(score_set(600, "v", 2.0, seed=5), noise, seed=5).units:
        if rule.first_stop(unit.checkpoints) is not None:
            stopped += 1
            one, other = calibration.decide(rule.apply(unit).distances), full.decide(unit.full)
            changed += (one.code, one.candidate) != (other.code, other.candidate)
    assert stopped > 900
    assert changed / stopped < 0.03


def calibrated(scores: ScoreSet, checkpoints: int) -> Calibration:
    validation = with_checkpoints(score_set(40, "v", 2.0), (0.5, 0.2, 0.1)[:checkpoints])
    return fit_calibration(
        [record(name) for name in "ab"],
        scores,
        validation,
        FEW,
        projection={"steps": 20},
        population={"psi": 1.0},
        strata=STRATA,
        controls=[control("generated", "ab"), control("real", "ab")],
        tool_version="0",
        created="2026-01-01T00:00:00+00:00",
        bootstrap=5,
        checkpoints=STEPS[:checkpoints],
    )


def record(name: str) -> CandidateRecord:
    return CandidateRecord(name, name * 64, "stylegan2", 64, {})


def test_validation_reports_what_stopping_did() -> None:
    noise = (0.5, 0.2)
    calibration = calibrated(with_checkpoints(score_set(150, "c", 2.0), noise), len(noise))
    row = calibration.validation["stopping"]["real"]
    units, rule = calibration.scores["validation"].real, calibration.stopping
    assert rule is not None
    places = [rule.first_stop(unit.checkpoints) for unit in units]
    assert row["stopped"] == [places.count(0), places.count(1)]
    assert row["mean_steps"] == pytest.approx(np.mean([20 if p is None else STEPS[p] for p in places]))
    assert row["n"] == 40 and row["same_verdict"] >= 36
    own = calibration.scores["calibration"].generated[0]
    assert all(rule.apply(unit).distances == unit.distances for unit in own)
    all_steps = calibration.without_stopping().scores["calibration"].generated[0]
    assert [unit.full for unit in own] == [unit.distances for unit in all_steps]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tiny generators."""
    folder = tmp_path_factory.mktemp("stopping")
    for seed, name in enumerate("ab"):
        tiny_generator(folder / f"{name}.safetensors", seed)
    return folder


@pytest.fixture(scope="module")
def searcher(folder: Path) -> Searcher:
    G = load_generator(folder / "a.safetensors")
    return Searcher(G, ProjectionConfig(steps=TOTAL), LPIPS("vgg"), latent_statistics(G))


def test_a_search_goes_on_in_another_batch_as_if_it_had_not_stopped(searcher: Searcher) -> None:
    G = searcher.G
    targets = to_unit(sample_images(G, [5, 6, 7, 8, 9]))
    seeds = [1, 2, 3, 4, 5]
    whole = project(G, targets, config=searcher.config, lpips=searcher.lpips, seeds=seeds, checkpoints=[2, 4])
    first = begin(searcher, targets[:3], seeds[:3])
    second = begin(searcher, targets[3:], seeds[3:])
    for batch in (first, second):
        batch.advance(2, [2, 4])
    kept = [*first.present_states()[1:], *second.present_states()]  # the first image leaves, the others meet
    together = Batch(searcher, kept)
    together.advance(4, [2, 4])
    together = Batch(searcher, together.present_states()[::-1])
    together.advance(TOTAL, [2, 4])
    for found, expected in zip(results(together)[::-1], whole[1:], strict=True):
        assert found.lpips == expected.lpips and found.checkpoints == expected.checkpoints
        assert found.history == expected.history and found.steps == TOTAL
        assert torch.equal(found.w, expected.w) and all(map(torch.equal, found.noise, expected.noise))


def test_measuring_on_the_way_changes_nothing(searcher: Searcher) -> None:
    targets = to_unit(sample_images(searcher.G, [5]))
    one, other = (
        project(searcher.G, targets, config=searcher.config, lpips=searcher.lpips, seeds=[1], checkpoints=checkpoints)[
            0
        ]
        for checkpoints in ((), (1, 5))
    )
    assert torch.equal(one.w, other.w) and one.lpips == other.lpips
    assert [steps for steps, _ in other.checkpoints] == [1, 5] and one.checkpoints == ()
    batch = begin(searcher, targets, [1])
    batch.advance(5)
    assert results(batch)[0].lpips == other.checkpoints[1][1]


def test_images_stop_alone_and_candidates_together(searcher: Searcher) -> None:
    pixels = sample_images(searcher.G, range(5, 13))
    asked: list[int] = []
    taken: list[str] = []
    counted: list[int] = []
    found: dict[str, dict[str, Projection]] = {}

    def images() -> Iterator[Wanted]:
        for i, t in enumerate(to_unit(pixels)):
            taken.append(str(i))
            yield Wanted(str(i), {"a": t, "b": t}, i)

    def count(images: int) -> None:
        counted.append(images)
        assert images != 1 or len(taken) == 8  # every batch is full until the images run out
        assert len(taken) - len(found) <= 3 * 2  # and few are under way

    def stops(place: int, distances) -> bool:
        assert sorted(distances) == ["a", "b"]
        asked.append(place)
        return distances["a"] < watched[0][place]

    alone = project(
        searcher.G, to_unit(pixels), config=searcher.config, lpips=searcher.lpips, seeds=range(8), checkpoints=(2, 5)
    )
    watched = [[float(np.median([p.checkpoints[place][1] for p in alone])) for place in (0, 1)]]
    for key, projections in search_images(images(), {"a": searcher, "b": searcher}, Watch((2, 5), stops), 2, count):
        found[key] = projections
    assert asked.count(0) == 8 and 0 < asked.count(1) < 8
    for key, expected in zip(sorted(found), alone, strict=True):
        projections = found[key]
        reached = [steps for place, (steps, d) in enumerate(expected.checkpoints) if d < watched[0][place]]
        assert projections["a"].steps == projections["b"].steps == min([*reached, TOTAL])
        if not reached:
            assert projections["a"].lpips == expected.lpips
    assert sum(counted) == 8 * 2 * TOTAL  # the progress bar ends at its end
    assert len({p["a"].steps for p in found.values()}) > 1


@pytest.fixture(scope="module")
def world(folder: Path) -> Iterator[Path]:
    """A calibration with a rule, whose scores are simulated and whose controls are real; suspects; a case."""
    torch.set_num_threads(1)
    candidates = load_candidates({name: folder / f"{name}.safetensors" for name in "ab"})
    config = ProjectionConfig(steps=TOTAL)
    lpips = LPIPS("vgg")
    controls = []
    for kind in ("generated", "real"):
        plain = control(kind, "ab", 16)
        pixels = np.array(Image.open(io.BytesIO(base64.b64decode(plain.png_base64))).convert("RGB"))
        seed = image_seed(0, plain.pixels_sha256)
        found = {}
        for c in candidates:
            (found[c.name],) = project(
                c.generator,
                to_unit(pixels[None]),
                config=config,
                lpips=lpips,
                seeds=[seed],
                checkpoints=config.checkpoints,
            )
        distances = {name: p.lpips for name, p in found.items()}
        early = {name: [d for _, d in p.checkpoints] for name, p in found.items()}
        controls.append(replace(plain, distances=distances, checkpoints=early))
    noise = (0.3, 0.2, 0.1, 0.05, 0.03)
    calibration = fit_calibration(
        [candidate_record(c) for c in candidates],
        with_checkpoints(score_set(150, "c", 1.5), noise),
        with_checkpoints(score_set(40, "v", 1.5), noise),
        FEW,
        projection=asdict(config) | {"lpips": "vgg", "seed": 0},
        population={"psi": 1.0},
        strata=STRATA,
        controls=controls,
        tool_version="0",
        created="2026-01-01T00:00:00+00:00",
        bootstrap=5,
        checkpoints=config.checkpoints,
    )
    calibration.save(folder / "cal.json")
    write_reals(folder / "reals", 6)
    write_samples(folder / "suspects", folder / "a.safetensors", [1, 2, 3])
    for i in range(5):
        shutil.copy(folder / "reals" / f"{i:03d}.png", folder / "suspects")
    assert run("attribute", folder / "suspects", *options(folder, "case")) == 0
    yield folder


def options(folder: Path, out: str) -> list[object]:
    pair = [part for name in "ab" for part in ("--candidate", f"{name}={folder / f'{name}.safetensors'}")]
    return [*pair, "--calibration", folder / "cal.json", "--out", folder / out, "--batch-size", 4]


def report_of(case: Path) -> dict:
    return json.loads((case / "report.json").read_text())


def test_the_file_keeps_the_rule_and_what_it_was_made_of(world: Path) -> None:
    calibration = load_calibration(world / "cal.json")
    assert calibration.stopping and calibration.stopping.steps == (1, 2, 4, 5, 7)
    assert calibration.id == load_calibration(world / "cal.json").id
    content = json.loads((world / "cal.json").read_text())
    assert all(len(unit["checkpoints"]) == 5 for unit in content["scores"]["validation"]["real"])
    full = calibration.without_stopping()
    assert "stopping" not in full.to_json() and "full" not in full.to_json()["scores"]["calibration"]["real"][0]
    assert full.without_stopping() is full


def test_a_case_says_where_and_why_each_search_ended(world: Path) -> None:
    report = report_of(world / "case")
    calibration = load_calibration(world / "cal.json")
    rule = calibration.stopping
    assert rule is not None
    ended = set()
    for image in report["images"]:
        rows, stopping = image["candidates"], image["stopping"]
        assert {row["steps"] for row in rows} == {stopping["steps"]} and stopping["of"] == TOTAL
        distances = list(zip(*([d for _, d in row["checkpoints"]] for row in rows), strict=True))
        place = rule.first_stop(distances)
        assert stopping["steps"] == (TOTAL if place is None else rule.steps[place])
        assert all((row["lpips_expected"] is None) == (place is None) for row in rows)
        assert (
            calibration.decide([row["lpips_expected"] or row["lpips"] for row in rows]).code == image["verdict"]["code"]
        )
        assert f"after {stopping['steps']} of" in stopping["statement"] or "took all 10 steps" in stopping["statement"]
        ended.add(stopping["steps"])
    assert min(ended) < TOTAL
    assert report["run"]["controls_hold"] is True
    assert all(c["drift"] == 0 and c["calibrated"] == c["distances"] for c in report["run"]["controls"])
    assert min(c["steps"] for c in report["run"]["controls"]) < TOTAL
    page = (world / "case" / "report.html").read_text()
    rows = calibration.validation["stopping"].values()
    assert "Where the searches ended" in page and "of 10 steps in the mean" in page
    assert f"{sum(row['same_verdict'] for row in rows)} of 120 images have the verdict" in page


def test_full_runs_every_step_under_its_own_calibration(world: Path) -> None:
    assert run("attribute", world / "suspects", *options(world, "full"), "--full") == 0
    report = report_of(world / "full")
    assert {row["steps"] for image in report["images"] for row in image["candidates"]} == {TOTAL}
    assert all(image["stopping"] is None for image in report["images"])
    assert report["calibration"]["id"] == load_calibration(world / "cal.json").without_stopping().id
    assert run("verify", world / "full") == 0


def test_an_image_alone_stops_where_it_stops_among_others(world: Path) -> None:
    name = "002.png"
    assert run("attribute", world / "suspects" / name, *options(world, "alone")) == 0
    (alone,) = report_of(world / "alone")["images"]
    among = next(i for i in report_of(world / "case")["images"] if i["path"].endswith(name))
    assert alone["stopping"] == among["stopping"] and alone["verdict"] == among["verdict"]
    assert [row["lpips"] for row in alone["candidates"]] == [row["lpips"] for row in among["candidates"]]


@pytest.mark.parametrize("field", ["steps", "checkpoints", "expected", "statement", "leeway"])
def test_verify_finds_an_edit_of_where_a_search_ended(world: Path, tmp_path: Path, field: str, capsys) -> None:
    shutil.copytree(world / "case", tmp_path / "case")
    assert run("verify", tmp_path / "case") == 0
    report = read_report(tmp_path / "case")
    image = next(i for i in report.images if i.stopping and i.stopping.steps < TOTAL)
    place = report.images.index(image)
    if field == "steps":
        image = replace(image, candidates=[replace(row, steps=row.steps + 1) for row in image.candidates])
    elif field == "expected":
        rows = [replace(row, lpips_expected=0.9 * row.judged) for row in image.candidates]
        image = replace(image, candidates=rows)
    elif field == "checkpoints":
        rows = [replace(r, checkpoints=[[s, d * 1.5] for s, d in r.checkpoints]) for r in image.candidates]
        image = replace(image, candidates=rows)
    else:
        assert image.stopping is not None
        changed = (
            replace(image.stopping, statement="so") if field == "statement" else replace(image.stopping, leeway=[9.0])
        )
        image = replace(image, stopping=changed)
    images = [image if i == place else other for i, other in enumerate(report.images)]
    write_report(replace(report, images=images), tmp_path / "case")
    capsys.readouterr()
    assert run("verify", tmp_path / "case") == 1
    assert f"images[{place}]" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (lambda c: c["stopping"].update(units=7), "stopping.units: found 7, expected 450"),
        (lambda c: c["stopping"]["checkpoints"].reverse(), "expected ascending ones"),
        (lambda c: c["stopping"]["checkpoints"][0].update(leeway="x"), "stopping.checkpoints.0.leeway"),
        (lambda c: c["stopping"]["checkpoints"][0].update(changed=10**6), "stopping.checkpoints.0.changed"),
        (lambda c: [x.update(stopped=450) for x in c["stopping"]["checkpoints"]], "at most 450, all there are"),
        (lambda c: c["stopping"]["checkpoints"][-1].update(steps=10), "expected fewer than a search's 10"),
        (lambda c: c["scores"]["calibration"]["real"][0].pop("full"), "scores.calibration.real.0"),
        (lambda c: c["stopping"]["checkpoints"][-1].update(leeway=4.0), "by which the rule judges it"),
        (lambda c: c["stopping"]["checkpoints"][0]["forecast"][1].reverse(), "checkpoints.0.forecast: found"),
        (lambda c: c["stopping"]["checkpoints"][0].update(leeway=1.1), "stopping.checkpoints.0.leeway: found 1.1"),
        (lambda c: c["stopping"]["checkpoints"][0].update(spread=[0.1, -1]), "checkpoints.0.spread: found -1"),
        (lambda c: c["stopping"]["checkpoints"][0].update(spread=[9, 9]), "checkpoints.0.spread: found 9, 9, expected"),
        (lambda c: c["stopping"]["checkpoints"][0].update(forecast=[[0, 1]]), "two numbers for each candidate"),
        (lambda c: c["scores"]["calibration"]["real"][0].update(checkpoints=[]), "at 0 checkpoints, expected 5"),
        (lambda c: c["scores"]["calibration"]["real"][0].update(full=[0.1]), "scores.calibration.real.0.full"),
        (lambda c: c["validation"]["stopping"]["real"].update(same_verdict=41), "stopping.real.same_verdict"),
        (lambda c: c.pop("stopping"), "stopping"),
    ],
)  # fmt: skip
def test_a_calibration_whose_rule_does_not_fit_is_refused(world: Path, tmp_path: Path, edit, sentence: str) -> None:
    content = json.loads((world / "cal.json").read_text())
    edit(content)
    content["id"] = content_id({k: v for k, v in content.items() if k != "id"})
    (tmp_path / "cal.json").write_bytes(canonical_json(content))
    with pytest.raises(ValueError, match=r"cal\.json") as error:
        load_calibration(tmp_path / "cal.json")
    assert sentence in str(error.value)


def test_the_papers_method_is_refused_with_a_shorter_calibration_or_an_encoder(world: Path, capsys) -> None:
    assert run("attribute", world / "suspects", *options(world, "paper"), "--method", "paper") == 2
    assert "--steps: found 1000, but the calibration was made with 10" in capsys.readouterr().err
    assert run("project", world / "suspects" / "000.png", "--generator", world / "a.safetensors", "--out", world / "p",
               "--method", "paper", "--encoder", world / "none") == 2  # fmt: skip
    assert "--encoder: found one with --method paper" in capsys.readouterr().err
