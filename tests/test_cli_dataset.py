"""`latentprint dataset` through the entry point."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.commands import run_command
from tests.image_files import saved


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two good pictures in two folders, and a bad file."""
    rng = np.random.default_rng(0)
    for name, size in {"a/1.png": (20, 16, 3), "b/2.png": (16, 16, 3)}.items():
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(saved(rng.integers(0, 256, size, dtype=np.uint8)))
    (tmp_path / "in" / "b" / "bad.jpg").write_bytes(b"hello")
    return tmp_path / "in"


@pytest.fixture
def dataset(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """latentprint dataset FOLDER --out FILE ARGUMENTS -> (exit code, stdout, stderr)."""

    def run(*arguments: object, out: str = "out.zip", resolution: int = 16) -> tuple[int, str, str]:
        fixed = ["dataset", folder, "--out", tmp_path / out, "--resolution", resolution]
        return run_command(*fixed, *arguments), *capsys.readouterr()

    return run


def test_what_was_packed_and_what_was_left_out(dataset, tmp_path: Path) -> None:
    code, out, err = dataset("--crop", "--label-folders")
    assert code == 0
    lines = out.splitlines()
    assert lines[0].startswith("content SHA-256: ") and len(lines[0]) == 17 + 64
    assert lines[1] == f"2 images in 2 classes, 1 left out: {tmp_path / 'out.zip'}"
    (sentence,) = [line for line in err.splitlines() if "found" in line]
    assert sentence.startswith("b/bad.jpg: found text, expected a PNG, JPEG, WEBP, TIFF, BMP, GIF")
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert json.loads(archive.read("dataset.json")) == {"labels": [["a/1.png", 0], ["b/2.png", 1]]}
    first = (tmp_path / "out.zip").read_bytes()
    assert dataset("--crop", "--label-folders")[0] == 0
    assert (tmp_path / "out.zip").read_bytes() == first


def test_nothing_left_is_exit_1(dataset, tmp_path: Path) -> None:
    code, out, err = dataset(resolution=64)
    assert (code, out) == (1, "")
    assert "in: found no image that can be packed (3 left out), expected one" in err.splitlines()[-1]
    assert not (tmp_path / "out.zip").exists() and "Traceback" not in err


def test_faces(dataset, tmp_path: Path) -> None:
    # x' = (4, 0), y' = (0, -5): a crop of 18 pixels around (8, 5.5)
    points = [[6, 5], [10, 5], [8, 7], [7, 10], [9, 10]]
    (tmp_path / "landmarks.json").write_text(json.dumps({"a/1.png": points}))
    code, out, err = dataset("--landmarks", tmp_path / "landmarks.json")
    assert code == 0 and "1 images, 2 left out" in out
    assert "b/2.png: found no landmarks for it" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--crop", "--letterbox"], "--crop: found --letterbox too, expected one of them"),
        (["--crop", "--landmarks", "x.json"], "--crop: found --landmarks too, expected one of them"),
        (["--landmarks", "none.json"], "none.json: found no JSON that can be read"),
        (["--letterbox", "--aspect", "4/3"], "--aspect: found '4/3', expected two numbers such as 4:3"),
        (["--aspect", "4:3"], "--aspect: found 4:3, expected two numbers of at least 1, and --letterbox"),
        (["--split", "train"], "found no index.csv"),
        (["--resolution", "65"], "--resolution: found 65, expected a power of two"),
        (["--out", "x.tar"], "--out: found x.tar, expected a file that ends in .zip"),
    ],
)
def test_wrong_usage_is_one_sentence_and_exit_2(dataset, arguments: list[str], message: str) -> None:
    code, out, err = dataset(*arguments)
    assert (code, out) == (2, "")
    assert err.splitlines()[-1].startswith("latentprint: ") and message in err.splitlines()[-1]
    assert "Traceback" not in err
