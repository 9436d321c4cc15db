"""What becomes of suspects, through the entry point: frames, limits, lists, hostile files, names and metadata."""

import json
import os
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

import cli
from attribution.engine import SILENT
from generator.alignment import align_face, face_crop
from reports.verify import verify_case
from tests.cases import tiny_generator, write_samples
from tests.image_files import saved
from tests.test_isolation import FAULTS

Attribute = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_generator(tmp_path_factory.mktemp("generators") / "a.safetensors", 0)


@pytest.fixture
def folder(generator: Path, tmp_path: Path) -> Path:
    """A folder with a-1.png and a-2.png."""
    return write_samples(tmp_path / "suspects", generator, [1, 2])


@pytest.fixture
def attribute(generator: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Attribute:
    """latentprint attribute ARGUMENTS with one candidate and one step -> (exit code, stdout, stderr)."""

    def attribute(*arguments: object) -> tuple[int, str, str]:
        fixed = ["--candidate", f"a={generator}", "--steps", 1, "--batch-size", 2]
        monkeypatch.setattr(sys, "argv", ["latentprint", "attribute", *map(str, [*arguments, *fixed])])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), out, err

    return attribute


def images_of(case: Path) -> dict[str, dict]:
    """The report's images by name."""
    images = json.loads((case / "report.json").read_text())["images"]
    return {image["path"].rsplit("/", 1)[-1]: image for image in images}


def sentence(err: str) -> str:
    (line,) = [line for line in err.splitlines() if line.startswith("latentprint: ")]
    return line


def test_a_file_that_crashes_or_hangs_its_decoder_costs_only_itself(
    attribute: Attribute, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "faults").mkdir()
    (tmp_path / "faults" / "sitecustomize.py").write_text(FAULTS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "faults"))
    for fault in ("crash", "hang", "memory"):
        info = PngImagePlugin.PngInfo()
        info.add_text("fault", fault)
        Image.open(folder / "a-1.png").save(folder / f"{fault}.png", pnginfo=info)
    code, out, _ = attribute(folder, "--out", tmp_path / "case", "--max-seconds", 1)
    images = images_of(tmp_path / "case")
    assert code == 0 and "5 images, 3 that could not be read or were refused" in out
    assert {name: image["verdict"]["code"] for name, image in images.items()} == {
        **dict.fromkeys(["a-1.png", "a-2.png"], "INCONCLUSIVE"),
        **dict.fromkeys(["crash.png", "hang.png", "memory.png"], "OUT_OF_SCOPE"),
    }
    assert "ended its decoder (SIGSEGV)" in images["crash.png"]["error"]["message"]
    assert "not decoded in 1 seconds" in images["hang.png"]["error"]["message"]
    assert "more memory" in images["memory.png"]["error"]["message"]


def test_a_frame_is_refused_or_chosen(attribute: Attribute, folder: Path, tmp_path: Path) -> None:
    pages = [Image.open(folder / f"a-{i}.png") for i in (1, 2)]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    attribute(tmp_path / "pages.tif", "--out", tmp_path / "one")
    assert "found 2 frames or pages" in images_of(tmp_path / "one")["pages.tif"]["error"]["message"]
    attribute(tmp_path / "pages.tif", folder / "a-2.png", "--frame", 2, "--out", tmp_path / "two")
    images = images_of(tmp_path / "two")
    assert images["pages.tif"]["pixels_sha256"] == images["a-2.png"]["pixels_sha256"]
    assert {"step": "frame", "frame": 2, "of": 2} in images["pages.tif"]["intake"]


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [("--max-pixels", 255, "found an image of 256 pixels, expected at most 255"), ("--max-seconds", 30, None)],
)
def test_limits_are_options(
    attribute: Attribute, folder: Path, tmp_path: Path, option: str, value: int, message: str | None
) -> None:
    assert attribute(folder / "a-1.png", option, value, "--out", tmp_path / "case")[0] == 0
    error = images_of(tmp_path / "case")["a-1.png"]["error"]
    assert (error and error["message"]) == message


def test_a_file_above_the_megabytes_is_refused(attribute: Attribute, folder: Path, tmp_path: Path) -> None:
    (folder / "large.png").write_bytes(bytes(2**20 + 1))
    attribute(folder, "--max-megabytes", 1, "--out", tmp_path / "case")
    assert "above 1,048,576 bytes" in images_of(tmp_path / "case")["large.png"]["error"]["message"]


def test_too_many_files_are_refused_before_any_work(attribute: Attribute, folder: Path, tmp_path: Path) -> None:
    code, _, err = attribute(folder, "--max-files", 1, "--out", tmp_path / "case")
    assert code == 2 and "found more than 1 files, expected at most that, or a larger --max-files" in sentence(err)
    assert not (tmp_path / "case").exists()


def test_another_frame_or_limit_is_another_run(attribute: Attribute, folder: Path, tmp_path: Path) -> None:
    attribute(folder, "--out", tmp_path / "case")
    code, _, err = attribute(folder, "--out", tmp_path / "case", "--frame", 1)
    assert code == 2 and "frame" in sentence(err)


def test_folders_lists_and_patterns(attribute: Attribute, folder: Path, tmp_path: Path) -> None:
    (folder / "deep").mkdir()
    shutil.copy(folder / "a-1.png", folder / "deep" / "b.png")
    attribute(folder, "--no-recursive", "--out", tmp_path / "flat")
    assert list(images_of(tmp_path / "flat")) == ["a-1.png", "a-2.png"]
    (folder / "list.csv").write_text("path,note\ndeep/b.png,x\na-2.png,y\ngone.png,z\n")
    attribute(folder / "list.csv", "--out", tmp_path / "listed")
    images = images_of(tmp_path / "listed")
    assert list(images) == ["b.png", "a-2.png", "gone.png"]
    assert images["gone.png"]["error"]["kind"] == "unreadable" and images["gone.png"]["facts"] is None
    attribute(f"{folder}/**/*.png", "--out", tmp_path / "matched")
    assert list(images_of(tmp_path / "matched")) == ["a-1.png", "a-2.png", "b.png"]


def test_equal_pixels_are_projected_once_and_all_reported(attribute: Attribute, folder: Path, tmp_path: Path) -> None:
    pixels = Image.open(folder / "a-1.png")
    pixels.save(folder / "again.bmp")
    pixels.save(folder / "other.tif")
    attribute(folder, "--out", tmp_path / "case")
    report = json.loads((tmp_path / "case" / "report.json").read_text())
    assert (report["summary"]["images"], report["summary"]["distinct_images"]) == (4, 2)
    assert len(list((tmp_path / "case" / "projections").iterdir())) == 2
    images = images_of(tmp_path / "case")
    assert images["a-1.png"]["candidates"] == images["again.bmp"]["candidates"] == images["other.tif"]["candidates"]


HOSTILE = [
    "<script>alert(1)<!--.png",
    "javascript:alert(1)//x.png",
    "a\nb\r.png",
    "\u202egnp.a\u2066.png",
    "\x1b]0;owned\x07.png",
    "[red]x[!].png",
    "../../escape.png",
    "n" * 4000 + ".png",
]


def test_hostile_names_and_metadata_are_inert(attribute: Attribute, folder: Path, tmp_path: Path) -> None:
    texts = "<script>alert(1)</script>\u202e\x1b[31m\n" * 100
    exif, pixels = Image.Exif(), Image.open(folder / "a-1.png")
    exif[305] = texts
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", texts)
    info.add_itxt("Comment", texts)
    data = saved(pixels, "PNG", exif=exif.tobytes(), pnginfo=info)
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name in HOSTILE:
            archive.writestr(name, data)
    before = set(tmp_path.rglob("*"))
    code, out, err = attribute(tmp_path / "x.zip", "--out", tmp_path / "case")
    assert code == 0 and not set("\x1b\x07\u202e\u2066\r") & set(out + err)
    assert "owned" in out and "<script>alert(1)" in out  # shown as text, on a line of its own
    assert all(path.is_relative_to(tmp_path / "case") for path in set(tmp_path.rglob("*")) - before)
    written = (tmp_path / "case" / "report.json").read_bytes()
    report = json.loads(written.decode("utf-8"))
    assert {image["path"] for image in report["images"]} == {f"{tmp_path}/x.zip/{name}" for name in HOSTILE}
    for image in report["images"]:
        assert image["error"] is None and len(image["facts"]["exif"]["software"]) <= 200
    assert not set(range(32)) - {10} & set(written)  # JSON escapes control characters


def test_names_that_are_no_unicode_come_from_lists_too(attribute: Attribute, folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "a-1.png", folder / os.fsdecode(b"x\xff.png"))
    (folder / "list.csv").write_bytes(b"path\nx\xff.png\n")
    assert attribute(folder / "list.csv", "--out", tmp_path / "case")[0] == 0
    assert images_of(tmp_path / "case")["x\\udcff.png"]["error"] is None


def test_faces_are_cut_out_by_landmarks_recorded_and_verified(attribute: Attribute, folder: Path) -> None:
    case, points = folder.parent / "case", folder.parent / "points.json"
    five = [[6.0, 6.0], [10.0, 6.0], [8.0, 8.0], [6.5, 10.0], [9.5, 10.0]]
    shutil.copy(folder / "a-1.png", folder / "same.png")
    Image.open(folder / "a-1.png").rotate(90).save(folder / "b.png")
    flat = [[1.0, 1.0]] * 5
    points.write_text(json.dumps({"a-1.png": five, "same.png": five, str(folder / "b.png"): flat, "b.png": five}))
    assert attribute(folder, "--landmarks", points, "--out", case)[0] == 0
    found = images_of(case)
    pixels = np.asarray(Image.open(folder / "a-1.png"))
    crop = face_crop(five)
    target = np.asarray(Image.open(case / found["a-1.png"]["candidates"][0]["target"]))
    assert np.array_equal(target, align_face(pixels, crop, 16))
    (step,) = [step for step in found["a-1.png"]["intake"] if step["step"] == "align_face"]
    assert (step["size"], step["centre"], step["to"]) == (crop.size, crop.centre.tolist(), [16, 16])
    for name, words in {
        "a-2.png": "found no landmarks for it",
        "b.png": "found landmarks of eyes and mouth in",
    }.items():
        assert found[name]["verdict"]["code"] == "OUT_OF_SCOPE" and words in found[name]["verdict"]["statement"]
    findings = verify_case(case, {}, None, None, "cpu", SILENT).findings
    assert not [finding for finding in findings if finding.holds is False]
    points.write_text(json.dumps({"a-1.png": five}))
    code, _, err = attribute(folder, "--landmarks", points, "--out", case)
    assert code == 2 and "holds a run with landmarks" in sentence(err)


def test_landmarks_that_are_ambiguous_or_no_json_are_refused(
    attribute: Attribute, folder: Path, tmp_path: Path
) -> None:
    points, other = tmp_path / "points.json", [[6, 5], [10, 6], [8, 8], [6, 10], [9, 10]]
    five = [[6, 6], [10, 6], [8, 8], [6, 10], [9, 10]]
    (folder / "deeper").mkdir()
    shutil.copy(folder / "a-1.png", folder / "deeper" / "a-1.png")
    for content, words in {
        json.dumps({"a-1.png": five}): "found points for a-1.png, which several images are called, expected",
        json.dumps({f"{folder}/a-1.png": five, "a-1.png": other}): "found other points for",
        "[": "points.json: found no JSON that can be read",
    }.items():
        points.write_text(content)
        code, _, err = attribute(folder, "--landmarks", points, "--out", tmp_path / "case")
        assert code == 2 and words in sentence(err)
    code, _, err = attribute(folder, "--landmarks", points, "--crop", "--out", tmp_path / "case")
    assert code == 2 and "--crop: found --landmarks too, expected one of them" in sentence(err)
