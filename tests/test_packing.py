"""Packing: what comes out of a folder or zip of images, that it comes out the same each time, and what is left out."""

import csv
import io
import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from generator.decoding import decode
from generator.imagesets import open_image_set
from generator.squares import fit_square
from tests.image_files import saved
from training.dataset import load_training_images
from training.packing import PackingSettings, folder_labels, middle_part, pack, stored_labels

RNG = np.random.default_rng(0)


def picture(width: int, height: int) -> np.ndarray:
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


def put(folder: Path, files: Mapping[str, bytes | np.ndarray]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else saved(content))
    return folder


def zipped(folder: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*"), reverse=True):
            if file.is_file():
                archive.write(file, file.relative_to(folder).as_posix())
    return path


def run(path: Path, out: Path, settings: PackingSettings, **more):
    """pack of all images of a path -> (what it says, {file left out: why})."""
    left_out: dict[str, str] = {}
    packed = pack(open_image_set(path), out, settings, on_left_out=left_out.__setitem__, **more)
    assert packed.left_out == len(left_out)
    return packed, left_out


def rows(path: Path) -> list[dict[str, str]]:
    with zipfile.ZipFile(path) as archive:
        return list(csv.DictReader(io.StringIO(archive.read("index.csv").decode())))


def test_training_reads_what_was_packed_with_the_same_hash(tmp_path):
    source = put(tmp_path / "in", {"b/2.png": picture(16, 16), "a.png": picture(40, 40), "b/1.png": picture(17, 17)})
    out = tmp_path / "out.zip"
    packed, _ = run(source, out, PackingSettings(16))
    images = load_training_images(open_image_set(out), 16)
    assert (packed.images, packed.left_out, packed.sha256) == (3, 0, images.sha256)
    for pixels, name in zip(images.pixels, ("a.png", "b/1.png", "b/2.png"), strict=True):
        original = decode((source / name).read_bytes()).pixels
        np.testing.assert_array_equal(pixels, fit_square(original, 16)[0])
    assert rows(out) == [{"file": n, "source": n, "split": ""} for n in ("a.png", "b/1.png", "b/2.png")]


def test_a_folder_and_its_zip_give_the_same_bytes_whatever_their_dates(tmp_path):
    source = put(tmp_path / "in", {"b.jpg": saved(picture(20, 20), "JPEG"), "a.png": picture(16, 16)})
    first, _ = run(source, tmp_path / "1.zip", PackingSettings(16))
    for file in source.iterdir():
        os.utime(file, (1e9, 1e9))
        file.chmod(0o600)
    again, _ = run(source, tmp_path / "2.zip", PackingSettings(16))
    other, _ = run(zipped(source, tmp_path / "in.zip"), tmp_path / "3.zip", PackingSettings(16))
    assert first == again == other
    contents = {(tmp_path / f"{i}.zip").read_bytes() for i in (1, 2, 3)}
    assert len(contents) == 1
    with zipfile.ZipFile(tmp_path / "1.zip") as archive:
        assert archive.namelist() == ["a.png", "b.png", "index.csv"]
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_sources_and_splits_are_kept(tmp_path):
    index = b"file,split,source,artist\nx.jpg,train,s1,me\ny.png,held-out,s2,me\n"
    source = put(tmp_path / "in", {"x.jpg": saved(picture(16, 16), "JPEG"), "y.png": picture(16, 16), "z.png": b"-"})
    put(source, {"index.csv": index})
    run(source, tmp_path / "out.zip", PackingSettings(16))
    assert rows(tmp_path / "out.zip") == [
        {"file": "x.png", "source": "s1", "split": "train"},
        {"file": "y.png", "source": "s2", "split": "held-out"},
    ]
    assert len(open_image_set(tmp_path / "out.zip", ["train"])) == 1


def test_files_of_one_name_but_different_suffixes_both_come(tmp_path):
    source = put(tmp_path / "in", {"a.png": picture(16, 16), "a.bmp": saved(picture(16, 16), "BMP")})
    run(source, tmp_path / "out.zip", PackingSettings(16))
    assert [row["file"] for row in rows(tmp_path / "out.zip")] == ["a.bmp.png", "a.png.png"]
    assert [row["source"] for row in rows(tmp_path / "out.zip")] == ["a.bmp", "a.png"]
    put(source, {"a.bmp.png": picture(16, 16)})
    with pytest.raises(ValueError, match=r"in: found two files for a\.bmp\.png, expected names that differ"):
        run(source, tmp_path / "other.zip", PackingSettings(16))


@pytest.mark.parametrize(("width", "height"), [(64, 48), (48, 64)])
def test_letterboxes_keep_the_whole_image(tmp_path, width, height):
    source = put(tmp_path / "in", {"a.png": np.full((height, width, 3), 200, np.uint8)})
    run(source, tmp_path / "out.zip", PackingSettings(32, "letterbox"))
    (pixels,) = load_training_images(open_image_set(tmp_path / "out.zip"), 32).pixels
    expected = np.zeros((32, 32, 3), np.uint8)
    expected[4:28] = 200
    np.testing.assert_array_equal(pixels, expected if width > height else expected.transpose(1, 0, 2))


@pytest.mark.parametrize(("width", "height"), [(640, 360), (640, 480), (500, 375), (333, 400)])
def test_the_form_of_lsun_car_has_the_same_bars_for_every_image(tmp_path, width, height):
    source = put(tmp_path / "in", {"a.png": np.full((height, width, 3), 90, np.uint8)})
    run(source, tmp_path / "out.zip", PackingSettings(64, "letterbox", (4, 3)))
    (pixels,) = load_training_images(open_image_set(tmp_path / "out.zip"), 64).pixels
    assert (pixels[8:56] == 90).all()  # 64 x 48
    assert not pixels[:8].any() and not pixels[56:].any()


def test_the_middle_part_has_the_exact_shape():
    part = middle_part(np.arange(7 * 11 * 3).reshape(7, 11, 3), (4, 3))
    np.testing.assert_array_equal(part, np.arange(7 * 11 * 3).reshape(7, 11, 3)[:6, 1:9])


def test_crops_take_the_middle(tmp_path):
    image = picture(48, 32)
    source = put(tmp_path / "in", {"a.png": image})
    run(source, tmp_path / "out.zip", PackingSettings(32, "crop"))
    (pixels,) = load_training_images(open_image_set(tmp_path / "out.zip"), 32).pixels
    np.testing.assert_array_equal(pixels, image[:, 8:40])


def test_every_bad_file_has_its_own_sentence_and_the_others_come(tmp_path):
    good = saved(picture(32, 32))
    source = put(
        tmp_path / "in",
        {
            "1-good.png": good,
            "2-text.png": b"hello",
            "3-empty.png": b"",
            "4-cut.png": good[:-40],
            "5-wide.png": picture(40, 32),
            "6-small.png": picture(31, 31),
            "7-good.jpg": saved(picture(33, 33), "JPEG"),
        },
    )
    packed, left_out = run(source, tmp_path / "out.zip", PackingSettings(32))
    assert (packed.images, packed.left_out) == (2, 5)
    assert list(left_out) == ["2-text.png", "3-empty.png", "4-cut.png", "5-wide.png", "6-small.png"]
    assert all(reason.startswith("found ") and ", expected " in reason for reason in left_out.values())
    assert "unless --crop or --letterbox is given" in left_out["5-wide.png"]
    assert left_out["6-small.png"].startswith("found 31 x 31 pixels") and "--upscale" in left_out["6-small.png"]
    assert [row["file"] for row in rows(tmp_path / "out.zip")] == ["1-good.png", "7-good.png"]


def test_small_images_are_enlarged_only_where_asked(tmp_path):
    source = put(tmp_path / "in", {"a.png": picture(40, 20)})
    _, left_out = run(put(source, {"b.png": picture(32, 32)}), tmp_path / "1.zip", PackingSettings(32, "crop"))
    assert list(left_out) == ["a.png"]
    packed, left_out = run(source, tmp_path / "2.zip", PackingSettings(32, "crop", upscale=True))
    assert packed.images == 2 and not left_out
    packed, left_out = run(source, tmp_path / "3.zip", PackingSettings(32, "letterbox"))
    assert packed.images == 2 and not left_out  # 40 pixels wide, reduced to 32


def test_damaged_members_of_a_zip_are_named(tmp_path):
    source = put(tmp_path / "in", {"a.png": picture(16, 16), "b.png": picture(16, 16)})
    path = zipped(source, tmp_path / "in.zip")
    with zipfile.ZipFile(path, "a", zipfile.ZIP_STORED) as archive:
        archive.writestr("../c.png", saved(picture(16, 16)))
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        place = archive.getinfo("a.png").header_offset
    data[place + 60 : place + 90] = bytes(30)
    path.write_bytes(data)
    packed, left_out = run(path, tmp_path / "out.zip", PackingSettings(16))
    assert packed.images == 1
    assert left_out["a.png"].startswith("found a file that cannot be read")
    assert left_out["../c.png"].startswith("found a name that leads elsewhere when unpacked")


@pytest.mark.parametrize("old", [None, b"old"])
def test_where_nothing_is_left_nothing_is_written(tmp_path, old):
    source = put(tmp_path / "in", {"a.png": b"hello"})
    (tmp_path / "out").mkdir()
    if old:
        (tmp_path / "out" / "o.zip").write_bytes(old)
    with pytest.raises(RuntimeError, match=r"in: found no image that can be packed \(1 left out\), expected one"):
        run(source, tmp_path / "out" / "o.zip", PackingSettings(16))
    assert [p.read_bytes() for p in (tmp_path / "out").iterdir()] == ([old] if old else [])


def test_the_source_is_never_overwritten(tmp_path):
    path = zipped(put(tmp_path / "in", {"a.png": picture(16, 16)}), tmp_path / "in.zip")
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"^--out: found .*in\.zip, which the images come from"):
        run(path, tmp_path / "in" / ".." / "in.zip", PackingSettings(16))
    assert path.read_bytes() == before


# ---------------------------------------------------------------- faces


def test_faces_are_cut_out(tmp_path):
    points = [[40, 50], [60, 50], [50, 60], [43, 75], [57, 75]]  # a crop of 90 pixels around (50, 52.5)
    image = np.zeros((110, 105, 3), np.uint8)
    image[8:98, 5:96] = 255
    files = {"a.png": image, "no-face.png": picture(90, 90), "odd.png": picture(90, 90), "small.png": picture(80, 80)}
    source = put(tmp_path / "in", files)
    landmarks = {"a.png": points, "odd.png": [[1, 2]], "small.png": (np.array(points) / 6 + 20).tolist()}
    packed, left_out = run(source, tmp_path / "out.zip", PackingSettings(32), landmarks=landmarks)
    assert packed.images == 1
    (pixels,) = load_training_images(open_image_set(tmp_path / "out.zip"), 32).pixels
    assert (pixels[1:-1, 1:-1] == 255).all()
    assert left_out["no-face.png"].startswith("found no landmarks for it")
    assert left_out["odd.png"].startswith("found landmarks that are")
    assert left_out["small.png"].startswith("found a face crop of 15.0 pixels, expected at least 32 unless --upscale")


# ---------------------------------------------------------------- labels


def labelled(folder: Path) -> Path:
    return put(folder, {"dog/1.png": picture(16, 16), "cat/1.png": picture(16, 16), "cat/2/3.png": picture(16, 16)})


def test_folders_become_labels_of_the_packed_files(tmp_path):
    source = put(labelled(tmp_path / "in"), {"dog/bad.png": b"hello", "ant/bad.png": b"hello"})
    images = open_image_set(source)
    packed = pack(images, tmp_path / "out.zip", PackingSettings(16), labels=folder_labels(images))
    assert (packed.images, packed.classes) == (3, 3)
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        found = json.loads(archive.read("dataset.json"))
    # classes are numbered before files are left out: the number of a class does not depend on what is damaged
    assert found == {"labels": [["cat/1.png", 1], ["cat/2/3.png", 2], ["dog/1.png", 3]]}


def test_stored_labels_go_through(tmp_path):
    source = labelled(tmp_path / "in")
    assert stored_labels(open_image_set(source)) is None
    put(source, {"dataset.json": json.dumps({"labels": None}).encode()})
    assert stored_labels(open_image_set(source)) is None
    labels = {"dog/1.png": 4, "cat/1.png": 0, "cat/2/3.png": 4, "gone.png": 1}
    put(source, {"dataset.json": json.dumps({"labels": list(labels.items())}).encode()})
    for path in (source, zipped(source, tmp_path / "in.zip")):
        images = open_image_set(path)
        packed = pack(images, tmp_path / "out.zip", PackingSettings(16), labels=stored_labels(images))
        assert packed.classes == 2
        assert stored_labels(open_image_set(tmp_path / "out.zip")) == {
            k: v for k, v in labels.items() if k != "gone.png"
        }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "found no"),
        ("[]", "found no"),
        ("{}", "found no"),
        ('{"labels": 3}', "found no"),
        ('{"labels": [["a"]]}', "found no"),
        ('{"labels": [["dog/1.png", "dog"]]}', "found label 'dog' of dog/1.png, expected whole numbers from 0"),
        ('{"labels": [["dog/1.png", -1]]}', "found label -1 of dog/1.png"),
        ('{"labels": [["dog/1.png", true]]}', "found label True of dog/1.png"),
        ('{"labels": [["dog/1.png", 1]]}', r"found no label of cat/1.png \(2 missing in all\)"),
    ],
)
def test_labels_of_another_form_are_named(tmp_path, text, message):
    source = put(labelled(tmp_path / "in"), {"dataset.json": text.encode()})
    with pytest.raises(ValueError, match=rf"in/dataset\.json: {message}"):
        stored_labels(open_image_set(source))


def test_a_file_outside_of_every_class_is_named(tmp_path):
    source = put(labelled(tmp_path / "in"), {"loose.png": picture(16, 16)})
    with pytest.raises(ValueError, match=r"^--label-folders: found loose\.png in no folder"):
        folder_labels(open_image_set(source))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"resolution": 100}, "--resolution: found 100, expected a power of two from 8 to 1024"),
        ({"resolution": 2048}, "--resolution: found 2048"),
        ({"resolution": 4}, "--resolution: found 4"),
        ({"resolution": 8, "aspect": (4, 3)}, "--aspect: found 4:3, expected .* and --letterbox"),
        ({"resolution": 8, "aspect": (4, 0), "shape": "letterbox"}, "--aspect: found 4:0"),
    ],
)
def test_impossible_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        PackingSettings(**settings)


def test_images_with_alpha_and_orientation_come_as_intake_sees_them(tmp_path):
    image = Image.fromarray(picture(16, 24))
    exif = Image.Exif()
    exif[0x0112] = 6
    source = put(tmp_path / "in", {"a.jpg": saved(image, "JPEG", exif=exif)})
    run(source, tmp_path / "out.zip", PackingSettings(16, "crop"))
    (pixels,) = load_training_images(open_image_set(tmp_path / "out.zip"), 16).pixels
    upright = decode((source / "a.jpg").read_bytes()).pixels
    assert upright.shape == (16, 24, 3)
    np.testing.assert_array_equal(pixels, upright[:, 4:20])
