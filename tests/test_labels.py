"""Labels of training images: from dataset.json or folders, and every way in which they can be wrong."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from generator.images import encode_png
from generator.imagesets import open_image_set
from training.dataset import load_training_images
from training.labels import read_labels

IMAGES = ("cat/1.png", "cat/2.png", "dog/1.png")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i, name in enumerate(IMAGES):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(encode_png(np.full((8, 8, 3), i, np.uint8)))
    return tmp_path


def write_labels(folder: Path, labels: object) -> None:
    (folder / "dataset.json").write_text(json.dumps({"labels": labels}))


def test_folders_are_classes_in_the_order_of_their_names(folder: Path) -> None:
    labels = read_labels(open_image_set(folder))
    assert labels.names == ("cat", "dog") and labels.numbers.tolist() == [0, 0, 1]


def test_a_dataset_json_comes_before_folders(folder: Path) -> None:
    write_labels(folder, [["dog/1.png", 0], ["cat/2.png", 4], ["cat/1.png", 1], ["other.png", 70]])
    labels = read_labels(open_image_set(folder))
    assert labels.numbers.tolist() == [1, 4, 0]
    assert labels.names == ("0", "1", "2", "3", "4")


def test_labels_of_a_zip_and_of_a_split(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    write_labels(folder, [[name, i] for i, name in enumerate(IMAGES)])
    path = tmp_path_factory.mktemp("zip") / "images.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in (*IMAGES, "dataset.json"):
            archive.write(folder / name, name)
        archive.writestr("index.csv", "file,source,split\ndog/1.png,a,x\ncat/2.png,b,x\ncat/1.png,c,y\n")
    assert read_labels(open_image_set(path, ["x"])).numbers.tolist() == [1, 2]  # cat/2, dog/1


def test_labels_are_part_of_the_hash(folder: Path) -> None:
    images = open_image_set(folder)
    plain, by_folder = load_training_images(images, 8), load_training_images(images, 8, read_labels(images))
    write_labels(folder, [[name, i % 2] for i, name in enumerate(IMAGES)])
    other = load_training_images(images, 8, read_labels(images))
    assert len({plain.sha256, by_folder.sha256, other.sha256}) == 3
    assert plain.labels is None and other.labels is not None and other.labels.tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "found no JSON"),
        ('{"labels": [', "found no JSON"),
        ("[" * 100_000, "found no JSON"),
        ("[]", "found no list of labels"),
        ("{}", "found no list of labels"),
        ('{"labels": null}', "found no list of labels"),
        ('{"labels": {"cat/1.png": 1}}', "found no list of labels"),
        ('{"labels": ["cat/1.png"]}', "found entry 0 'cat/1.png', expected"),
        ('{"labels": [["cat/1.png", 1], ["cat/2.png"]]}', "found entry 1 .* expected"),
        ('{"labels": [["cat/1.png", -1]]}', "found entry 0 .*-1.*, expected"),
        ('{"labels": [["cat/1.png", 1.0]]}', "found entry 0 .* expected"),
        ('{"labels": [["cat/1.png", true]]}', "found entry 0 .* expected"),
        ('{"labels": [["cat/1.png", "1"]]}', "found entry 0 .* expected"),
        ('{"labels": [["cat/1.png", 65536]]}', "found entry 0 .* expected .* 0 to 65535"),
        ('{"labels": [["cat/1.png", [0, 1]]]}', "found entry 0 .* expected"),
        ('{"labels": [["cat/1.png", 1], ["cat/1.png", 2]]}', "found cat/1.png with labels 1 and 2"),
        ('{"labels": [["cat/1.png", 1]]}', r"found no label for cat/2.png \(2 missing\)"),
        ('{"labels": [["cat/1.png", 0], ["cat/2.png", 0], ["dog/1.png", 0]]}', "found only label 0"),
    ],
)
def test_a_bad_dataset_json_is_named(folder: Path, text: str, message: str) -> None:
    (folder / "dataset.json").write_text(text)
    with pytest.raises(ValueError, match=rf"dataset\.json: {message}"):
        read_labels(open_image_set(folder))


def test_images_without_a_class_are_named(folder: Path) -> None:
    (folder / "dog" / "1.png").rename(folder / "loose.png")
    with pytest.raises(ValueError, match=r"found loose\.png in no folder and no dataset\.json"):
        read_labels(open_image_set(folder))
    (folder / "loose.png").unlink()
    with pytest.raises(ValueError, match=r"found one folder, cat, and no dataset\.json, expected at least two classes"):
        read_labels(open_image_set(folder))
