"""The command line through its entry point: what a user types, reads and gets."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cli
from tests.cases import tiny_generator, write_reals, write_samples
from tests.commands import run_command


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two generators, real images, a calibration and a few suspects."""
    folder = tmp_path_factory.mktemp("world")
    for seed, name in enumerate("ab"):
        tiny_generator(folder / f"{name}.safetensors", seed)
    write_reals(folder / "reals", 60)
    code, *_ = run("calibrate", *candidates(folder), "--real", folder / "reals", "--out", folder / "cal.json", *QUICK)
    assert code == 0
    write_samples(folder / "suspects", folder / "a.safetensors", [1, 2])
    Image.open(folder / "reals" / "000.png").save(folder / "suspects" / "real.png")
    return folder


_capture: list[pytest.CaptureFixture[str]] = []  # of the running test; none while the world is made
QUICK = ["--steps", "3", "--alpha", "0.2", "--delta", "0.2", "--lambda", "0.3", "--batch-size", "4"]


@pytest.fixture(autouse=True)
def _keep(capsys: pytest.CaptureFixture[str]) -> None:
    _capture[:] = [capsys]


def run(*arguments: object) -> tuple[int, str, str]:
    """latentprint ARGUMENTS -> (exit code, stdout, stderr)."""
    code = run_command(*arguments)
    out, err = _capture[0].readouterr() if _capture else ("", "")
    return code, out, err


def candidates(folder: Path, *names: str) -> list[str]:
    return [part for name in names or "ab" for part in ("--candidate", f"gen-{name}={folder / f'{name}.safetensors'}")]


def attribute(world: Path, suspects: Path, out: Path, *more: object) -> tuple[int, str, str]:
    return run(
        "attribute",
        suspects,
        *candidates(world),
        "--calibration",
        world / "cal.json",
        "--out",
        out,
        "--batch-size",
        4,
        *more,
    )


def report_of(case: Path) -> dict:
    return json.loads((case / "report.json").read_text())


def test_attribute_writes_a_complete_case(world: Path, tmp_path: Path) -> None:
    code, out, _ = attribute(world, world / "suspects", tmp_path / "case")
    assert code == 0
    assert out.rstrip().endswith("report.html")
    assert "3 images, 0 that could not be read or were refused" in out
    report = report_of(tmp_path / "case")
    assert report["run"]["controls_hold"] is True
    assert len(report["run"]["controls"]) == 4
    assert [len(image["candidates"]) for image in report["images"]] == [2, 2, 2]
    for image in report["images"]:
        for candidate in image["candidates"]:
            lo, hi = candidate["log10_lr_bounds"]
            assert lo <= candidate["log10_lr"] <= hi
            assert (tmp_path / "case" / candidate["projection"]).is_file()
    assert (tmp_path / "case" / "calibration.json").read_bytes() == (world / "cal.json").read_bytes()
    files = {p.relative_to(tmp_path / "case").as_posix() for p in (tmp_path / "case").rglob("*") if p.is_file()}
    manifest = json.loads((tmp_path / "case" / "manifest.json").read_text())["files"]
    assert set(manifest) == files - {"run.sqlite", "manifest.json"}
    assert len(files) > 7 * (1 + 2 * 3)  # three suspects and four controls: a target, and three files a candidate


def test_candidates_in_any_order_and_under_any_name(world: Path, tmp_path: Path) -> None:
    attribute(world, world / "suspects", tmp_path / "one")
    swapped = ["--candidate", f"x={world / 'b.safetensors'}", "--candidate", f"y={world / 'a.safetensors'}"]
    code, *_ = run(
        *("attribute", world / "suspects", *swapped, "--calibration", world / "cal.json"),
        *("--out", tmp_path / "two", "--batch-size", 4),
    )
    assert code == 0
    for ours, theirs in zip(report_of(tmp_path / "one")["images"], report_of(tmp_path / "two")["images"], strict=True):
        by_hash = {c["projection"].split(".")[-2]: c for c in theirs["candidates"]}
        for candidate in ours["candidates"]:
            other = by_hash[{"gen-a": "y", "gen-b": "x"}[candidate["name"]]]
            assert other["lpips"] == candidate["lpips"]
            assert other["log10_lr"] == candidate["log10_lr"]
        assert ours["score"] == theirs["score"]


def test_same_command_twice_gives_identical_distances(world: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        attribute(world, world / "suspects", tmp_path / name)
    first, second = (report_of(tmp_path / name) for name in ("one", "two"))
    assert [i["candidates"][0]["lpips"] for i in first["images"]] == [
        i["candidates"][0]["lpips"] for i in second["images"]
    ]
    before = (tmp_path / "one" / "report.json").read_bytes()
    assert attribute(world, world / "suspects", tmp_path / "one")[0] == 0
    assert (tmp_path / "one" / "report.json").read_bytes() == before


def test_every_bad_file_has_its_own_sentence(world: Path, tmp_path: Path) -> None:
    folder = write_samples(tmp_path / "folder", world / "a.safetensors", [5])
    write_bad_files(folder)
    code, out, _ = attribute(world, folder, tmp_path / "case")
    assert code == 0
    assert "9 images, 4 that could not be read or were refused" in out
    images = {Path(i["path"]).name: i for i in report_of(tmp_path / "case")["images"]}
    sentences = {name: images[name]["error"]["message"] for name in ("cut.jpg", "text.png", "huge.png", "moving.gif")}
    assert len(set(sentences.values())) == 4
    assert "100,000,000" in sentences["huge.png"] or "10000" in sentences["huge.png"]
    assert "2 frames" in sentences["moving.gif"]
    assert images["photo.png"]["error"] is None
    assert "24 x 16" in images["photo.png"]["verdict"]["statement"]
    for name in ("cut.jpg", "text.png", "huge.png", "moving.gif", "photo.png"):
        assert images[name]["verdict"]["code"] == "OUT_OF_SCOPE"
        assert images[name]["candidates"] == []
    for name in ("sixteen.png", "palette.png", "<script>x<.png", "a-5.png"):
        assert images[name]["verdict"]["code"] != "OUT_OF_SCOPE", images[name]["verdict"]
        assert len(images[name]["candidates"]) == 2
    html = (tmp_path / "case" / "report.html").read_text()
    assert "<script>x<" not in html
    assert "&lt;script&gt;x&lt;.png" in html


def write_bad_files(folder: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(folder / "cut.jpg")
    (folder / "cut.jpg").write_bytes((folder / "cut.jpg").read_bytes()[:1500])
    (folder / "text.png").write_text("not a picture")
    Image.new("1", (10_000, 10_000)).save(folder / "huge.png")
    Image.new("RGB", (16, 16)).save(
        folder / "moving.gif", save_all=True, append_images=[Image.new("RGB", (16, 16), "red")]
    )
    Image.fromarray(noise[:16, :24]).save(folder / "photo.png")
    ramp = np.arange(256, dtype=np.uint16).reshape(16, 16) * 257
    Image.fromarray(ramp).save(folder / "sixteen.png")
    palette = Image.fromarray(noise[:16, :16]).quantize(8)
    palette.save(folder / "palette.png", transparency=0)
    Image.fromarray(noise[16:32, :16]).save(folder / "<script>x<.png")


def test_crop_makes_a_wide_photo_square(world: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    noise = np.random.default_rng(1).integers(0, 256, (16, 24, 3), np.uint8)
    Image.fromarray(noise).save(folder / "photo.png")
    attribute(world, folder, tmp_path / "case", "--crop")
    (image,) = report_of(tmp_path / "case")["images"]
    assert len(image["candidates"]) == 2
    assert any(step["step"] == "crop" for step in image["intake"])


def test_without_a_calibration_everything_is_inconclusive(world: Path, tmp_path: Path) -> None:
    code, *_ = run("attribute", world / "suspects", *candidates(world), "--steps", 2, "--out", tmp_path / "case")
    assert code == 0
    for image in report_of(tmp_path / "case")["images"]:
        assert image["verdict"]["code"] == "INCONCLUSIVE"
        assert image["score"] is image["threshold"] is image["p_value_real"] is image["log10_margin"] is None
        assert all(c["log10_lr"] is None and c["lpips"] > 0 for c in image["candidates"])


def test_an_uncalibrated_history_is_out_of_scope(world: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    Image.open(world / "suspects" / "real.png").save(folder / "coded.jpg", quality=75)
    Image.open(world / "suspects" / "real.png").resize((64, 64)).save(folder / "larger.png")
    attribute(world, folder, tmp_path / "case")
    for image in report_of(tmp_path / "case")["images"]:
        assert image["verdict"]["code"] == "OUT_OF_SCOPE"
        assert "has no calibration" in image["verdict"]["statement"]
        assert image["error"] is None


def test_a_killed_run_goes_on_and_projects_nothing_twice(world: Path, tmp_path: Path) -> None:
    suspects = write_samples(tmp_path / "suspects", world / "a.safetensors", list(range(24)))
    arguments = [
        *("attribute", suspects, *candidates(world), "--calibration", world / "cal.json"),
        *("--batch-size", 4, "--out", tmp_path / "killed"),
    ]
    # as many threads as the tests have (conftest.py): the last digits depend on how a sum is shared out
    script = "import torch; torch.set_num_threads(1); import cli; cli.main()"
    command = [sys.executable, "-c", script, *map(str, arguments)]
    process = subprocess.Popen(
        command, cwd=Path(cli.__file__).parent, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    projections = tmp_path / "killed" / "projections"
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline and len(list(projections.glob("[!.]*"))) < 6:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed" / "report.json").exists(), (
        "it was quicker than the kill: raise the number of suspects"
    )
    import sqlite3

    with sqlite3.connect(tmp_path / "killed" / "run.sqlite") as connection:
        done = {key for (key,) in connection.execute("SELECT key FROM record WHERE kind = 'projection'")}
    assert done
    before = {key: (projections / f"{key}.safetensors").stat().st_mtime_ns for key in done}
    assert run(*arguments)[0] == 0
    assert {key: (projections / f"{key}.safetensors").stat().st_mtime_ns for key in done} == before
    attribute(world, suspects, tmp_path / "straight")
    assert comparable(report_of(tmp_path / "killed")) == comparable(report_of(tmp_path / "straight"))


def comparable(report: dict) -> list:
    return [[i["sha256"], i["score"], i["verdict"], [c["lpips"] for c in i["candidates"]]] for i in report["images"]]


def test_report_renders_a_case_again(world: Path, tmp_path: Path) -> None:
    attribute(world, world / "suspects", tmp_path / "case")
    before = (tmp_path / "case" / "report.html").read_bytes()
    (tmp_path / "case" / "report.html").unlink()
    assert run("report", tmp_path / "case")[0] == 0
    assert (tmp_path / "case" / "report.html").read_bytes() == before


def test_study_separation_prints_and_writes_its_table(world: Path, tmp_path: Path) -> None:
    code, out, _ = run(
        *("study", "separation", *candidates(world), "--calibration", world / "cal.json", "--real", world / "reals"),
        *("--out", tmp_path / "study", "--units", 4),
    )
    assert code == 0
    assert "AUC gen-a vs real" in out
    assert "AUC gen-a vs gen-b" in out
    study = json.loads((tmp_path / "study" / "separation.json").read_text())
    assert len(study["units"]) == 12
    assert study["verdicts"] is not None
    changed, *_ = run(
        *("study", "separation", *candidates(world), "--calibration", world / "cal.json", "--real", world / "reals"),
        *("--out", tmp_path / "other", "--units", 4, "--steps", 2, "--noise-weight", 0),
    )
    assert changed == 0
    assert json.loads((tmp_path / "other" / "separation.json").read_text())["verdicts"] is None


def test_generate_replaces_no_other_file(world: Path, tmp_path: Path) -> None:
    arguments = ["generate", "--generator", world / "a.safetensors", "--seeds", "1", "--out", tmp_path]
    assert run(*arguments)[0] == 0 and run(*arguments)[0] == 0
    before = (tmp_path / "seed000001.png").read_bytes()
    code, _, err = run(*arguments, "--psi", 0.1)
    assert code == 2 and "seed000001.png with other content" in err
    assert (tmp_path / "seed000001.png").read_bytes() == before


def test_interrupting_says_how_to_go_on(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("generator.sampling.sample_images", interrupt)
    code, _, err = run("generate", "--generator", world / "a.safetensors", "--out", tmp_path)
    assert code == 1 and "interrupted; the same command goes on" in err


def test_project_and_generate(world: Path, tmp_path: Path) -> None:
    image, generator = world / "suspects" / "a-1.png", world / "a.safetensors"
    code, out, _ = run("project", image, "--generator", generator, "--out", tmp_path / "p", "--steps", 3)
    assert code == 0
    assert "LPIPS" in out
    assert Path(out.strip().splitlines()[-1]).is_file()
    assert run("generate", "--generator", generator, "--seeds", "3,5-6", "--out", tmp_path / "g")[0] == 0
    assert sorted(p.name for p in (tmp_path / "g").iterdir()) == ["seed000003.png", "seed000005.png", "seed000006.png"]
    run("generate", "--generator", generator, "--seeds", "6", "--out", tmp_path / "again")
    assert (tmp_path / "again" / "seed000006.png").read_bytes() == (tmp_path / "g" / "seed000006.png").read_bytes()


def test_evaluate_prints_numbers(world: Path) -> None:
    code, out, _ = run(
        "evaluate", "--generator", world / "a.safetensors", "--data", world / "reals", "--samples", 12, "--json"
    )
    assert code == 0
    figures = json.loads(out)
    assert figures["fd_vgg16"] > 0
    assert 0 <= figures["recall"] <= 1


def test_evaluate_without_inception_and_its_cache(world: Path, tmp_path: Path) -> None:
    names = "fd_vgg16,kd_vgg16,precision,recall,ppl,swd,ms_ssim"
    command = ["evaluate", "--generator", world / "a.safetensors", "--data", world / "reals", "--samples", 10]
    command += ["--metrics", names, "--cache", tmp_path / "cache"]
    code, out, _ = run(*command)
    assert code == 0
    assert [line.split(":")[0] for line in out.splitlines()] == [
        *("fd_vgg16", "kd_vgg16", "kd_vgg16_std", "precision", "recall", "ppl", "swd", "swd_16", "ms_ssim")
    ]
    (kept,) = (tmp_path / "cache").iterdir()
    written = kept.stat().st_mtime_ns
    assert run(*command)[1] == out
    assert kept.stat().st_mtime_ns == written


def test_doctor_says_what_is_on(world: Path) -> None:
    code, out, _ = run("doctor")
    assert code == 0
    assert "operators: cpu: " in out
    assert "lpips vgg: intact" in out
    assert json.loads(run("doctor", "--json")[1])["torch"]


@pytest.mark.parametrize(
    "command",
    [
        "",
        *["demo", "attribute", "calibrate", "project", "generate", "train", "evaluate", "dataset", "report", "doctor"],
    ],
)
def test_help_explains_every_command(command: str) -> None:
    code, out, _ = run(*command.split(), "--help")
    assert code == 0
    assert "Usage: " in out
    assert len(out.splitlines()) > 5


ERRORS = {
    "unknown path": (("attribute", "nowhere", "{ab}", "{cal}", "--out", "{tmp}/c"), "nowhere: found no such file"),
    "no candidate": (("attribute", "{suspects}", "{cal}", "--out", "{tmp}/c"), "candidate"),
    "missing candidate": (("attribute", "{suspects}", "{a}", "{cal}", "--out", "{tmp}/c"), "gen-b .* is missing"),
    "no generator": (("attribute", "{suspects}", "--candidate", "n={tmp}/none", "--out", "{tmp}/c"), "no such file"),
    "bad name": (("attribute", "{suspects}", "--candidate", "a b=x", "--out", "{tmp}/c"), "'a b': expected a name of"),
    "twice": (("attribute", "{suspects}", "{a}", "{a}", "--out", "{tmp}/c"), "found the name gen-a twice"),
    "other steps": (
        ("attribute", "{suspects}", "{ab}", "{cal}", "--steps", "7", "--out", "{tmp}/c"),
        "--steps: found 7, but",
    ),
    "both shapes": (
        ("attribute", "{suspects}", "{ab}", "{cal}", "--crop", "--letterbox", "--out", "{tmp}/c"),
        "--crop",
    ),
    "not a calibration": (
        ("attribute", "{suspects}", "{ab}", "--calibration", "{a_file}", "--out", "{tmp}/c"),
        "a.safetensors",
    ),
    "bad device": (
        ("attribute", "{suspects}", "{ab}", "{cal}", "--device", "tpu", "--out", "{tmp}/c"),
        "expected cpu, cuda or auto",
    ),
    "bad lpips": (
        ("attribute", "{suspects}", "{ab}", "--lpips", "squeeze", "--out", "{tmp}/c"),
        "--lpips.*squeeze.*vgg.*alex",
    ),
    "too few reals": (
        ("calibrate", "{ab}", "--real", "{reals}", "--out", "{tmp}/c.json", "--steps", "1"),
        "at least 299",
    ),
    "no such split": (
        ("calibrate", "{ab}", "--real", "{reals}", "--split", "z", "--out", "{tmp}/c.json"),
        "found splits x, y",
    ),
    "bad seeds": (
        ("generate", "--generator", "{a_file}", "--seeds", "9-3", "--out", "{tmp}/g"),
        "--seeds: found '9-3'",
    ),
    "unknown config": (
        ("train", "--data", "{reals}", "--config", "huge", "--out", "{tmp}/t"),
        "--config: found 'huge'",
    ),
    "wrong size": (("train", "--data", "{reals}", "--out", "{tmp}/t"), "found 16x16, expected 64x64"),
    "no case": (("report", "{tmp}"), "report.json"),
    "unknown metric": (("evaluate", "--generator", "{a_file}", "--data", "{reals}", "--metrics", "mos"), "mos"),
    "no inception": (
        ("evaluate", "--generator", "{a_file}", "--data", "{reals}", "--metrics", "fid"),
        "metrics: found fid without --inception FILE .* expected that or some of fd_vgg16, kd_vgg16",
    ),
    "bad inception": (
        ("evaluate", "--generator", "{a_file}", "--data", "{reals}", "--metrics", "fid", "--inception", "{a_file}"),
        "a.safetensors: found tensors of another network .*Conv2d_1a_3x3",
    ),
    "unknown option": (("doctor", "--nonsense"), "--nonsense"),
    "unknown command": (("divine",), "divine"),
    "too many units": (
        ("study", "separation", "{ab}", "{cal}", "--real", "{reals}", "--out", "{tmp}/s"),
        "expected at least 64",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_wrong_usage_is_one_sentence_and_exit_2(case: str, world: Path, tmp_path: Path) -> None:
    arguments, expected = ERRORS[case]
    parts = {
        "{ab}": candidates(world),
        "{a}": candidates(world, "a"),
        "{cal}": ["--calibration", str(world / "cal.json")],
        "{suspects}": [str(world / "suspects")],
    }
    words = {"{tmp}": str(tmp_path), "{a_file}": str(world / "a.safetensors"), "{reals}": str(world / "reals")}
    command: list[str] = []
    for argument in arguments:
        for word, value in words.items():
            argument = argument.replace(word, value)
        command += parts.get(argument, [argument])
    code, out, err = run(*command)
    assert code == 2, err
    assert out == ""
    lines = [line for line in err.splitlines() if line.startswith("latentprint: ")]
    assert len(lines) == 1, err
    assert "Traceback" not in err
    import re

    assert re.search(expected, lines[0]), lines[0]


def test_an_out_made_with_other_settings_is_refused_and_kept(world: Path, tmp_path: Path) -> None:
    attribute(world, world / "suspects", tmp_path / "case")
    before = (tmp_path / "case" / "report.json").read_bytes()
    code, _, err = run("attribute", world / "suspects", *candidates(world), "--steps", 2, "--out", tmp_path / "case")
    assert code == 2
    assert "holds a run with steps 3 (now 2)" in err
    assert (tmp_path / "case" / "report.json").read_bytes() == before


def test_debug_shows_the_traceback() -> None:
    code, _, err = run("--debug", "report", "/nowhere")
    assert code == 2
    assert "Traceback" in err


def test_train_a_moment_and_resume(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for i in range(4):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (64, 64, 3), np.uint8)).save(folder / f"{i}.png")
    command = ["train", "--data", folder, "--out", tmp_path / "run", "--batch", 4]
    assert run(*command, "--kimg", 0.004)[0] == 0
    code, out, _ = run(*command, "--kimg", 0.008)
    assert code == 0
    assert "generator.safetensors" in out
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["kimg"] for line in lines if "loss_d" in line] == [0.004, 0.008]
    code, _, err = run(*command, "--kimg", 0.008, "--seed", 5)
    assert code == 2
    assert "was made with" in err
