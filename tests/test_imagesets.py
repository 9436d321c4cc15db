"""Image sets: folders and zips, with and without an index."""

import zipfile
from pathlib import Path

import pytest

from generator.imagesets import ImageRecord, open_image_set

EMOJI = Path(__file__).parent / "data" / "emoji-portraits-64.zip"
INDEX = "file,split,source,artist\nb/2.png,train,s1,x\na.png,held-out,s2,y\nb/1.png,train,s1,y\n"


def make(path: Path, files: dict[str, str]) -> Path:
    """Write files into a folder, or into a zip where the path's name says so."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, text in files.items():
                archive.writestr(name, text)
    else:
        for name, text in files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_text(text)
    return path


@pytest.fixture(params=["set", "set.zip"])
def place(request, tmp_path) -> Path:
    return tmp_path / request.param


FILES = {"a.png": "A", "b/1.png": "B1", "b/2.png": "B2", "notes.txt": "-"}


def test_without_an_index_every_image_is_its_own_source(place):
    images = open_image_set(make(place, FILES | {"c.JPEG": "C"}))
    assert images.records == tuple(ImageRecord(n, n) for n in ("a.png", "b/1.png", "b/2.png", "c.JPEG"))
    assert len(images) == 4


def test_an_index_gives_sources_and_splits(place):
    images = open_image_set(make(place, FILES | {"index.csv": INDEX, "unlisted.png": "-"}))
    assert images.records == (
        ImageRecord("a.png", "s2", "held-out"),
        ImageRecord("b/1.png", "s1", "train"),
        ImageRecord("b/2.png", "s1", "train"),
    )


def test_splits_and_another_source_column(place):
    make(place, FILES | {"index.csv": INDEX})
    assert [r.name for r in open_image_set(place, ["train"]).records] == ["b/1.png", "b/2.png"]
    assert len(open_image_set(place, ["train", "held-out"])) == 3
    assert [r.source for r in open_image_set(place, ["train"], source_column="artist").records] == ["y", "x"]


def test_reading_yields_the_bytes_in_the_order_asked(place):
    images = open_image_set(make(place, FILES))
    assert list(images.read(["b/2.png", "a.png"])) == [b"B2", b"A"]


def test_a_file_that_cannot_be_read_does_not_stop_the_others(place):
    images = open_image_set(make(place, FILES))
    found = list(images.try_read(["a.png", "gone.png", "b/1.png", "b/2.png"], max_bytes=1))
    assert found[0] == b"A"
    assert [str(error).split(",")[0] for error in found[2:]] == ["found a file above 1 bytes"] * 2
    assert str(found[1]).startswith("found a file that cannot be read (") and "gone" not in str(found[0])
    assert list(images.try_read(["b/1.png"], max_bytes=2)) == [b"B1"]


def test_the_emoji_splits_share_no_source_between_training_and_the_rest():
    splits = {name: open_image_set(EMOJI, [name]) for name in ("train", "held-out", "held-out-subject")}
    assert {name: len(images) for name, images in splits.items()} == {
        "train": 2337,
        "held-out": 1647,
        "held-out-subject": 2878,
    }
    sources = {name: {r.source for r in images.records} for name, images in splits.items()}
    assert {name: len(s) for name, s in sources.items()} == {"train": 108, "held-out": 75, "held-out-subject": 140}
    assert not sources["train"] & (sources["held-out"] | sources["held-out-subject"])


@pytest.mark.parametrize(
    ("files", "splits", "message"),
    [
        ({"notes.txt": "-"}, [], "found no images, expected at least one"),
        (FILES, ["train"], "found no index.csv, expected one with a split column for --split train"),
        (FILES | {"index.csv": INDEX}, ["test"], "found splits held-out, train, expected also test"),
        (FILES | {"index.csv": INDEX + "gone.png,train,s3,x\n"}, [], "names gone.png, which is not there .1 missing"),
        (FILES | {"index.csv": "file,artist\na.png,x\n"}, [], "found columns file, artist, expected also source"),
        (FILES | {"index.csv": "file,source\na.png,x\n"}, ["train"], "found columns file, source, expected also split"),
        (FILES | {"index.csv": "file,split,source\n"}, [], "found no images"),
        (FILES | {"index.csv": "file,split,source\n../set,train,s\n"}, [], "names ../set, which is not there"),
    ],
)
def test_what_is_missing_is_named(place, files, splits, message):
    make(place, files)
    with pytest.raises(ValueError, match=rf"{place.name}(/index.csv)?: {message}"):
        open_image_set(place, splits)


def test_a_path_that_is_no_set_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"none: no such file or folder, expected"):
        open_image_set(tmp_path / "none")
    (tmp_path / "a.png").write_bytes(b"A")
    with pytest.raises(ValueError, match=r"a\.png: found a file that is not a zip, expected"):
        open_image_set(tmp_path / "a.png")
