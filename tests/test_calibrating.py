"""`calibrate` through the command line: which images it takes, and what it refuses before it projects anything."""

import csv
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cli
from attribution import calibrating, load_calibration
from attribution.calibration_json import content_id
from attribution.evidence import DecisionSettings
from attribution.evidence_files import write_projection
from attribution.population import merge_sources, read_units, validation_share
from attribution.scores import ScoreSet, Unit, disjoint_sets, split_sources
from attribution.store import RunStore
from attribution.threshold import smallest_n
from generator import Generator, GeneratorConfig, save_generator
from generator.imagesets import ImageRecord, open_image_set
from tests.cases import TINY, tiny_generator, write_reals, write_samples

QUICK = ("--steps", "1", "--alpha", "0.2", "--delta", "0.2", "--lambda", "0.3", "--batch-size", "8")
PORTRAITS = Path(__file__).parent / "data" / "emoji-portraits-64.zip"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two generators, real images, and images of a third generator."""
    folder = tmp_path_factory.mktemp("world")
    for seed, name in enumerate("abc"):
        tiny_generator(folder / f"{name}.safetensors", seed)
    write_reals(folder / "reals", 40)
    write_samples(folder / "others", folder / "c.safetensors", list(range(8)))
    return folder


@pytest.fixture
def calibrate(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """latentprint calibrate ARGUMENTS -> (exit code, stderr); real ones from the world unless given."""

    def run(*arguments: object, real: Path | None = None, out: Path | None = None) -> tuple[int, str]:
        generators = [("--candidate", f"gen-{name}={world / name}.safetensors") for name in "ab"]
        known = ("--real", real or world / "reals", "--out", out or tmp_path / "cal.json", *QUICK)
        words = ["latentprint", "calibrate", *(w for pair in generators for w in pair), *known, *arguments]
        monkeypatch.setattr(sys, "argv", list(map(str, words)))
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return int(stop.value.code or 0), capsys.readouterr().err

    return run


@pytest.fixture
def refuse(calibrate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The sentence of a refusal with exit code 2, before any projection, that leaves nothing behind."""

    def refused(*arguments: object, **places: Path) -> str:
        def project(*_: object) -> None:
            raise AssertionError("it projected")

        monkeypatch.setattr(calibrating, "project_missing", project)
        code, err = calibrate(*arguments, **places)
        assert code == 2, err
        assert not list(tmp_path.glob("cal.json*"))
        (sentence,) = [line for line in err.splitlines() if line.startswith("latentprint: ")]
        return sentence.removeprefix("latentprint: ")

    return refused


def copy_reals(world: Path, folder: Path) -> Path:
    return Path(shutil.copytree(world / "reals", folder))


def rewrite(index: Path, rows: Sequence[str]) -> None:
    index.write_text("\n".join(rows) + "\n")


@pytest.mark.parametrize("option", ["--real", "--generated", "--other"])
@pytest.mark.parametrize(
    ("suffix", "size", "found"),
    [
        (".jpg", (16, 16), "found the image history jpeg q90, scale 1, expected png, scale 1"),
        (".webp", (16, 16), "found the image history webp, scale 1, expected png, scale 1"),
        (".png", (32, 32), "found the image history png, scale 2, expected png, scale 1"),
        (".png", (17, 17), "found the image history png, scale 1.06, expected png, scale 1"),
        (".png", (24, 16), "found 24 x 16 pixels, expected a square image"),
    ],
)
def test_images_of_another_history_or_shape_are_named(world, tmp_path, refuse, option, suffix, size, found):
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(24):
        pixels = np.random.default_rng(i).integers(0, 256, (*size[::-1], 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}{suffix}", quality=90)
    if option == "--real":
        message = refuse(real=folder)
    else:
        message = refuse(option, f"{'gen-a' if option == '--generated' else 'cousin'}={folder}")
    assert message.startswith(f"{folder}/") and f"{suffix}: {found}" in message
    assert "--crop" not in message


def test_a_lossless_format_is_as_good_as_png(world, tmp_path):
    folder = copy_reals(world, tmp_path / "bmp")
    (folder / "index.csv").unlink()
    for file in folder.glob("*.png"):
        Image.open(file).save(file.with_suffix(".bmp"))
        file.unlink()
    images = open_image_set(folder)
    assert [unit.name for unit in read_units(images, images.records, 16)] == [f"{i:03d}.bmp" for i in range(40)]


def test_sources_that_share_an_image_count_once(world, tmp_path, calibrate):
    folder = copy_reals(world, tmp_path / "reals")
    # 000 to 007 are of the sources s0 to s3: s0 = s1 by one image, s1 = s3 by another, in another format
    shutil.copy(folder / "000.png", folder / "002.png")
    (folder / "006.png").unlink()
    Image.open(folder / "003.png").save(folder / "006.bmp")
    rewrite(folder / "index.csv", (folder / "index.csv").read_text().replace("006.png", "006.bmp").split())
    merged = merge_sources(open_image_set(folder))
    assert [r.source for r in merged[:8]] == ["s0", "s0", "s0", "s0", "s2", "s2", "s0", "s0"]
    assert calibrate(real=folder)[0] == 0
    calibration = load_calibration(tmp_path / "cal.json")
    assert calibration.population["merged_sources"] == {"real": 2}
    sources = [u.source for scores in calibration.scores.values() for u in scores.real]
    assert len(sources) == 18 and not {"s1", "s3"} & set(sources)


def test_copies_of_an_image_are_too_few_sources(world, tmp_path, refuse):
    folder = tmp_path / "same"
    folder.mkdir()
    for i in range(60):
        shutil.copy(world / "reals" / f"{i % 6:03d}.png", folder / f"{i}.png")
    assert "found 4 real sources in the calibration set, expected at least 8" in refuse(real=folder)


def test_an_excluded_source_takes_its_copies_along(world, tmp_path, calibrate):
    folder = copy_reals(world, tmp_path / "reals")
    shutil.copy(folder / "000.png", folder / "002.png")
    assert calibrate("--exclude", "s1", real=folder)[0] == 0
    scores = load_calibration(tmp_path / "cal.json").scores
    assert not {"s0", "s1"} & {u.source for part in scores.values() for u in part.real}


def test_real_images_that_are_called_generated_are_refused(world, tmp_path, refuse):
    folder = copy_reals(world, tmp_path / "reals")
    (folder / "index.csv").unlink()
    message = refuse("--other", f"cousin={folder}")
    assert "again in" in message and "expected every image in one set and class" in message


def test_merging_changes_nothing_of_the_bundled_selection():
    images = open_image_set(PORTRAITS, ["held-out", "held-out-style", "held-out-subject"])
    merged = merge_sources(images)
    assert merged == list(images.records)
    assert len({r.source for r in merged}) == 276


def records(n: int, splits: int) -> list[ImageRecord]:
    return [ImageRecord(f"{i}.png", f"s{i}", f"split{i % splits}") for i in range(n)]


@pytest.mark.parametrize("alpha", [0.01, 0.05])
@pytest.mark.parametrize("splits", [1, 2, 3])
@pytest.mark.parametrize("n", [600, 640, 741, 5000])
def test_from_six_hundred_sources_on_four_disjoint_sets_are_made(n, splits, alpha):
    population, decision = records(n, splits), DecisionSettings(alpha=alpha)
    share = validation_share(population, 0.33, decision)
    calibration, validation = split_sources(population, share, 0)
    split_of = {r.source: r.split for r in population}
    units = tuple(Unit(s, s, split_of[s], "0" * 64, (0.1,)) for s in calibration)
    sets = disjoint_sets(ScoreSet(units, (units,)), smallest_n(1, alpha, 0.05), 0)
    assert sets is not None and min(len(part.real) for part in sets) >= 100
    assert len(validation) >= 80 and share <= 0.33


def test_the_share_that_was_asked_for_stays_where_it_makes_no_four_sets():
    assert validation_share(records(599, 1), 0.33, DecisionSettings()) == 0.33
    assert validation_share(records(600, 1), 0.1, DecisionSettings()) == 0.1
    assert validation_share(records(3300, 1), 0.33, DecisionSettings(alpha=0.001)) == 0.33
    assert validation_share(records(5000, 1), 0.33, DecisionSettings()) == 0.33


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (("--lambda", "400"), "--lambda: found 400.0, expected a log10 likelihood ratio from 0 to 15"),
        (("--mu", "nan"), "--mu: found nan"),
        (("--psi", "nan"), "--psi: found nan, expected a number above 0"),
        (("--psi", "1e30"), "--psi: found 1e+30"),
        (("--validation", "0.001"), "--validation: found 0.001 of the 20 sources of"),
        (("--validation", "0.999"), "--validation: found 0.999 of the 20 sources of"),
        (("--validation", "nan"), "--validation: found nan"),
        (("--samples", "1"), "calibration scores: found 1 images of gen-a, expected at least 2"),
        (("--batch-size", "5000"), "--batch-size: found 5000, expected 1 to 4096"),
        (("--steps", "1000001"), "steps: found 1000001, expected a whole number from 1 to 1,000,000"),
        (("--alpha", "0.01"), "expected at least 161"),
        (("--control-split", "none"), "--control-split: found 0 calibration images in it, expected at least 2"),
        (("--other", "real={others}"), "real: found the name of the real images"),
    ],
)
def test_settings_that_end_in_no_calibration_are_refused_at_once(world, refuse, arguments, found):
    assert found in refuse(*(a.replace("{others}", str(world / "others")) for a in arguments))


def test_candidates_of_two_sizes_are_refused(world, tmp_path, refuse):
    larger = GeneratorConfig(**{**Generator(TINY).settings(), "resolution": 32})
    save_generator(Generator(larger), tmp_path / "large.safetensors")
    message = refuse("--candidate", f"large={tmp_path / 'large.safetensors'}")
    assert "found several resolutions (gen-a 16, gen-b 16, large 32), expected one" in message


@pytest.mark.parametrize("out", ["none/sub/cal.json", "."])
def test_an_out_that_can_not_be_written_is_refused_before_any_work(tmp_path, refuse, monkeypatch, out):
    monkeypatch.setattr(calibrating, "load_candidates", lambda *_: pytest.fail("it began to work"))
    assert refuse(out=tmp_path / out).startswith("--out: found ")


@pytest.mark.parametrize(
    ("row", "found"), [("000.png", "found fewer fields in line 3"), ("a,b,c,d", "found more fields in line 3")]
)
def test_a_row_of_another_length_is_named(world, tmp_path, refuse, row, found):
    folder = copy_reals(world, tmp_path / "reals")
    lines = (folder / "index.csv").read_text().split()
    rewrite(folder / "index.csv", [*lines[:2], row, *lines[2:]])
    assert refuse(real=folder) == f"{folder}/index.csv: {found}, expected 3 as in its header"


def test_a_calibration_of_all_kinds_of_images_loads_again(world, tmp_path, calibrate):
    write_samples(tmp_path / "own", world / "a.safetensors", list(range(100, 120)))
    shutil.copy(tmp_path / "own" / "a-100.png", tmp_path / "own" / "copy.png")
    code, err = calibrate("--generated", f"gen-a={tmp_path / 'own'}", "--other", f"cousin={world / 'others'}")
    assert code == 0, err
    calibration = load_calibration(tmp_path / "cal.json")
    assert calibration.population["merged_sources"] == {"real": 0, "generated:gen-a": 1, "other:cousin": 0}
    assert calibration.other_names == ["cousin"] and len(calibration.controls) == 4
    assert not list(tmp_path.glob("cal.json.run*"))
    with open(world / "reals" / "index.csv") as file:
        assert {u.source for u in calibration.scores["calibration"].real} <= {r["source"] for r in csv.DictReader(file)}


def test_attribute_refuses_a_forged_calibration_before_it_works(world, tmp_path, calibrate, capsys, monkeypatch):
    assert calibrate()[0] == 0
    content = json.loads((tmp_path / "cal.json").read_text())
    content["controls"][0]["pixels_sha256"] = "../../PWN"
    content["id"] = content_id({k: v for k, v in content.items() if k != "id"})
    (tmp_path / "cal.json").write_text(json.dumps(content))
    names = [word for n in "ab" for word in ("--candidate", f"gen-{n}={world / n}.safetensors")]
    words = ["attribute", world / "others", *names, "--calibration", tmp_path / "cal.json", "--out", tmp_path / "case"]
    monkeypatch.setattr(sys, "argv", ["latentprint", *map(str, words)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    assert 'cal.json: controls.0.pixels_sha256: found "../../PWN"' in capsys.readouterr().err
    assert not (tmp_path / "case").exists() and not list(tmp_path.glob("PWN*"))


def test_no_file_is_named_by_anything_but_a_hash(tmp_path):
    for key in ("../../PWN", "/PWN", "a" * 63, "A" * 64, "a" * 64 + "\n"):
        with pytest.raises(ValueError, match=r"key: found .* 64 hexadecimal digits"):
            write_projection(tmp_path, key, np.zeros((16, 16, 3), np.uint8), None, None)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_what_is_wrong_with_a_run_record_is_told_apart(tmp_path):
    (tmp_path / "text.sqlite").write_text("not a database, and long enough to be looked at as one" * 20)
    for path, found in ((tmp_path / "none" / "x.sqlite", "could not be opened"), (tmp_path, "could not be opened"),
                        (tmp_path / "text.sqlite", "found a file that is no run record")):  # fmt: skip
        with pytest.raises(ValueError, match=found):
            RunStore(path, {})
