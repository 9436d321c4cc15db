"""What a user's disk and habits do to a case directory, through the entry point: names, places, killed and odd runs."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import attribution.pipeline
from attribution.evidence_files import difference_picture
from tests.cases import tiny_generator, write_samples
from tests.commands import Run
from tests.test_files import rewrite

KINDS = ("projection", "target", "resynthesis", "difference")


@pytest.fixture(scope="module")
def generators(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a.safetensors, b.safetensors and c.safetensors."""
    folder = tmp_path_factory.mktemp("generators")
    for seed, name in enumerate("abc"):
        tiny_generator(folder / f"{name}.safetensors", seed)
    return folder


@pytest.fixture
def suspects(generators: Path, tmp_path: Path) -> Path:
    """A folder with a-1.png and a-2.png."""
    return write_samples(tmp_path / "suspects", generators / "a.safetensors", [1, 2])


@pytest.fixture
def attribute(run: Run, generators: Path) -> Run:
    """latentprint attribute PATH... --out OUT with one candidate and one step: (OUT, PATH..., more options)."""

    def attribute(out: object, *paths: object, candidate: str = "", steps: int = 1) -> tuple[int, str, str]:
        candidate = candidate or f"a={generators / 'a.safetensors'}"
        return run("attribute", *paths, "--candidate", candidate, "--steps", steps, "--batch-size", 2, "--out", out)

    return attribute


def report_of(case: Path) -> dict:
    return json.loads((case / "report.json").read_text())


def sentence(err: str) -> str:
    """The one sentence of an error."""
    (line,) = [line for line in err.splitlines() if line.startswith("latentprint: ")]
    assert "Traceback" not in err
    return line


def test_names_that_are_not_unicode_give_a_report_and_go_on(attribute: Run, run: Run, suspects: Path) -> None:
    odd, out = (suspects.parent / os.fsdecode(name) for name in (b"bad-\xff.png", b"out-\xfe"))
    shutil.copy(suspects / "a-1.png", odd)
    arguments = (out, odd, suspects, "--case", os.fsdecode(b"\xe9"))
    assert attribute(*arguments)[0] == 0
    first = (out / "report.json").read_bytes()
    report = json.loads(first)
    assert [Path(i["path"]).name for i in report["images"]] == ["bad-\\udcff.png", "a-1.png", "a-2.png"]
    assert report["run"]["case"] == "\\udce9"
    assert any("out-\\udcfe" in word for word in report["run"]["command"])
    assert attribute(*arguments)[0] == 0
    assert run("report", out)[0] == 0
    assert (out / "report.json").read_bytes() == first


def test_the_case_may_lie_among_the_suspects(attribute: Run, suspects: Path) -> None:
    for _ in range(2):
        assert attribute(suspects / "deeper" / "case", suspects)[0] == 0
        report = report_of(suspects / "deeper" / "case")
        assert [Path(i["path"]).name for i in report["images"]] == ["a-1.png", "a-2.png"]
    code, _, err = attribute(suspects / "deeper" / "case", suspects / "deeper" / "case" / "images")
    assert code == 2 and "images: found a suspect inside --out, expected" in sentence(err)


def test_candidates_named_like_files_keep_their_own_pictures(run: Run, generators: Path, suspects: Path) -> None:
    case, names = suspects.parent / "case", {"target-16": "a", "x": "b", "x.difference": "c"}
    options = [o for name, file in names.items() for o in ("--candidate", f"{name}={generators / file}.safetensors")]
    assert run("attribute", suspects, *options, "--steps", 1, "--out", case)[0] == 0
    rows = [row for image in report_of(case)["images"] for row in image["candidates"]]
    paths = [row[kind] for row in rows for kind in ("projection", "resynthesis", "difference")]
    assert len({path.lower() for path in paths} | {row["target"].lower() for row in rows}) == 2 * (3 * 3 + 1)
    for row in rows:
        target, ours, difference = (
            np.asarray(Image.open(case / row[kind])) for kind in ("target", "resynthesis", "difference")
        )
        assert np.array_equal(difference, difference_picture(target, ours))
    assert len({(case / row["resynthesis"]).read_bytes() for row in rows}) == len(rows)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ((".",), "'.': expected a name of"),
        (("..",), "'..': expected a name of"),
        (("a", "A"), "A: found the name a too, expected names that differ by more than case"),
        (("",), ".safetensors': expected NAME=FILE"),
    ],
)
def test_names_that_no_disk_keeps_apart_are_refused(
    run: Run, generators: Path, suspects: Path, names: tuple[str, ...], words: str
) -> None:
    options = [
        o for n, f in zip(names, "ab", strict=False) for o in ("--candidate", f"{n}={generators / f}.safetensors")
    ]
    code, _, err = run("attribute", suspects, *options, "--steps", 1, "--out", suspects.parent / "case")
    assert code == 2 and words in sentence(err)
    assert not (suspects.parent / "case").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t, m: m.update(provenance='{"x": NaN}'), "found a provenance that JSON does not have"),
        (
            lambda t, m: m.update(config=json.dumps(json.loads(m["config"]) | {"w_dim": 10**9})),
            "w_dim: found 1000000000",
        ),
        (lambda t, m: t["synthesis.const"].fill_(float("nan")), "tensor synthesis.const holds numbers"),
    ],
)
def test_a_hostile_generator_file_is_refused_before_any_work(
    attribute: Run, generators: Path, suspects: Path, change: Callable, words: str
) -> None:
    file, case = suspects.parent / "hostile.safetensors", suspects.parent / "case"
    shutil.copy(generators / "a.safetensors", file)
    rewrite(file, change)
    code, _, err = attribute(case, suspects, candidate=f"x={file}")
    assert (code, case.exists()) == (2, False)
    assert f"{file}: " in sentence(err) and words in sentence(err)


def test_a_folder_that_holds_something_else_is_left_alone(attribute: Run, suspects: Path) -> None:
    out = suspects.parent / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    code, _, err = attribute(out, suspects)
    assert (code, [p.name for p in out.iterdir()]) == (2, ["notes.txt"])
    assert f"{out}: found files and no run to go on with" in sentence(err)
    code, _, err = attribute(out / "notes.txt", suspects)
    assert code == 2 and "found a file, expected a folder" in sentence(err)
    (out / "notes.txt").unlink()
    assert attribute(out, suspects)[0] == 0  # an empty one will do


def test_a_copied_case_is_reported_but_not_gone_on_with(attribute: Run, run: Run, suspects: Path) -> None:
    case, copy = suspects.parent / "case", suspects.parent / "copy"
    attribute(case, suspects)
    shutil.copytree(case, copy, ignore=shutil.ignore_patterns("run.sqlite*", "report.html"))
    assert run("report", copy)[0] == 0
    for name in ("report.html", "manifest.json"):
        assert (copy / name).read_bytes() == (case / name).read_bytes()
    assert attribute(copy, suspects)[0] == 2


def test_the_manifest_lists_what_is_there_but_what_a_killed_run_left(attribute: Run, suspects: Path) -> None:
    case = suspects.parent / "case"
    attribute(case, suspects)
    one = report_of(case)
    (suspects / "a-2.png").unlink()
    (case / "images" / ".x.png.77.partial").write_bytes(b"half")  # as a killed run leaves them
    (case / ".report.json.77.partial").write_bytes(b"half")
    (case / "notes.txt").write_text("mine")
    assert attribute(case, suspects)[0] == 0
    (row,) = [row for image in report_of(case)["images"] for row in image["candidates"]]
    named = {row[kind] for kind in KINDS}
    before = {row[kind] for image in one["images"] for row in image["candidates"] for kind in row if kind in KINDS}
    manifest = json.loads((case / "manifest.json").read_text())["files"]
    assert set(manifest) == named | before | {"report.json", "report.html", "notes.txt"}
    assert not list(case.rglob("*.partial"))
    assert (case / "notes.txt").exists()
    assert report_of(case)["run"]["id"] != one["run"]["id"]  # another content is another report


def test_a_full_disk_is_named_and_leaves_nothing_half(
    attribute: Run, suspects: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = suspects.parent / "case"

    def full(path: Path, mode: str) -> Any:
        file = open(path, mode)  # noqa: SIM115
        if "w" in mode and ".difference.png" in path.name:
            file.write(b"the first ")
            file.close()
            raise OSError(28, "No space left on device")
        return file

    monkeypatch.setattr("generator.files.open", full, raising=False)
    code, _, err = attribute(case, suspects)
    assert code == 1
    assert "No space left on device" in sentence(err) and ".difference.png'" in sentence(err)
    assert ".partial" not in err and not list(case.rglob("*.partial"))
    monkeypatch.undo()
    monkeypatch.setattr(sys, "argv", [])
    assert attribute(case, suspects)[0] == 0


def test_another_version_or_number_of_threads_does_not_go_on(
    attribute: Run, suspects: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = suspects.parent / "case"
    attribute(case, suspects)
    before, now = (case / "report.json").read_bytes(), attribution.pipeline.tool_version()
    with monkeypatch.context() as changed:
        changed.setattr(attribution.pipeline, "tool_version", lambda: "99.0")
        code, _, err = attribute(case, suspects)
    assert code == 2 and f"environment.latentprint {now} (now 99.0), expected the same" in sentence(err)
    torch.set_num_threads(2)
    try:
        code, _, err = attribute(case, suspects)
    finally:
        torch.set_num_threads(1)
    assert code == 2 and "environment.threads 1 (now 2), expected the same" in sentence(err)
    assert (case / "report.json").read_bytes() == before
    assert attribute(case, suspects)[0] == 0


def test_a_run_with_other_options_is_told_what_differs(attribute: Run, suspects: Path) -> None:
    case, one, two = suspects.parent / "case", suspects / "a-1.png", suspects / "a-2.png"
    attribute(case, one, two)
    code, _, err = attribute(case, two, one)
    assert code == 2
    assert f"{case}: holds a run with paths {one}, {two} (now {two}, {one}), expected" in sentence(err)
    code, _, err = attribute(case, one, two, "--examiner", "M. Muster", steps=2)
    assert code == 2
    assert "holds a run with steps 1 (now 2) and examiner none (now M. Muster), expected" in sentence(err)


@pytest.mark.parametrize("command", ["attribute", "project"])
def test_an_unknown_network_makes_no_folder(run: Run, generators: Path, suspects: Path, command: str) -> None:
    file = generators / "a.safetensors"
    given = ["--candidate", f"a={file}"] if command == "attribute" else ["--generator", file]
    code, _, err = run(command, suspects / "a-1.png", *given, "--lpips", "squeeze", "--out", suspects.parent / "case")
    assert code == 2 and "squeeze" in sentence(err)
    assert not (suspects.parent / "case").exists()


def test_an_empty_path_is_not_the_current_folder(attribute: Run, suspects: Path) -> None:
    code, _, err = attribute(suspects.parent / "case", "")
    assert code == 2 and "PATH: found an empty name, expected an image, a folder or a zip" in sentence(err)


def test_names_in_errors_and_tables_have_no_control_characters(attribute: Run, suspects: Path) -> None:
    (suspects / "a-1.png").rename(suspects / "\x1b[31m\u202ea.png")
    code, out, err = attribute(suspects.parent / "case", suspects)
    assert code == 0 and "\ufffd[31m\ufffda.png" in out and not {"\x1b", "\u202e"} & set(out + err)
    code, _, err = attribute(suspects.parent / "other", suspects / "\x1b[31m")
    assert code == 2 and "\ufffd[31m: found no such file" in sentence(err) and "\x1b[31m" not in err
