"""Intake: what is listed, what is read, what is said of bad files, and which calibration stratum a suspect matches."""

import hashlib
import json
import os
import pickle
import zipfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attribution.examination import IntakeRecord, _slim
from attribution.intake import (
    IntakeSettings,
    Stratum,
    Suspect,
    SuspectFile,
    estimate_stratum,
    list_suspects,
    match_stratum,
    prepare_side,
    prepare_target,
    read_suspect,
    suspect_from_bytes,
)
from generator.containers import ImageError
from generator.decoding import Limits, pixels_sha256
from generator.images import encode_png
from generator.isolation import DecodingProcess
from tests.image_files import PIXELS, saved

PNG = saved(PIXELS)
SQUARE = np.ascontiguousarray(PIXELS[:, :5])


def shown(*paths: str | Path) -> list[str]:
    return [file.path for file in list_suspects(paths)]


def fill(folder: Path, names: list[str], data: bytes = PNG) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def read_all(*paths: str | Path) -> dict[str, Suspect]:
    return {Path(s.path).name: s for s in map(read_suspect, list_suspects(paths))}


def test_a_folder_is_searched_to_the_bottom_and_sorted(tmp_path):
    fill(tmp_path, ["b.png", "a/z.jpg", "a/b/c.webp", "a.png", "a-b.png", "no_suffix", "film.mp4"])
    expected = ["a-b.png", "a.png", "a/b/c.webp", "a/z.jpg", "b.png", "film.mp4", "no_suffix"]
    assert shown(tmp_path) == [f"{tmp_path}/{name}" for name in expected]


ASIDE = ["README.txt", "index.csv", "LICENSE", "LICENSE.OpenMoji", "notes.md", "meta.json", "Readme", ".DS_Store"]
ASIDE += [".hidden/x.png", "sub/.x.png", "Thumbs.db", "__MACOSX/x.png"]
IMAGES = ["license-plate.jpg", "readme.PNG", "sub/x.png", "text.png"]


def test_what_accompanies_images_is_left_out_of_folders_and_zips(tmp_path):
    folder, packed = tmp_path / "folder", tmp_path / "packed.zip"
    fill(folder, ASIDE + IMAGES)
    with zipfile.ZipFile(packed, "w") as archive:
        for name in reversed(ASIDE + IMAGES):
            archive.writestr(name, PNG)
    assert shown(folder) == [f"{folder}/{name}" for name in IMAGES]
    assert shown(packed) == [f"{packed}/{name}" for name in IMAGES]


def test_a_file_that_is_named_always_counts_and_once_only(tmp_path):
    fill(tmp_path, ["README.txt", "x.png"])
    paths = [tmp_path / "x.png", tmp_path / "README.txt", tmp_path, f"{tmp_path}/./x.png"]
    assert shown(*paths) == [f"{tmp_path}/x.png", f"{tmp_path}/README.txt"]


@pytest.mark.parametrize("kind", ["absent", "pipe", "damaged.zip"])
def test_a_wrong_path_is_an_error_before_anything_is_listed(tmp_path, kind):
    if kind == "pipe":
        os.mkfifo(tmp_path / kind)
    elif kind == "damaged.zip":
        (tmp_path / kind).write_bytes(b"PK\x03\x04 and no directory")
    with pytest.raises(ValueError, match=f"{tmp_path}/{kind}: found .*, expected an image, a folder or a zip"):
        list_suspects([tmp_path, tmp_path / kind])


def test_a_folder_is_searched_to_its_top_only_where_that_is_asked_for(tmp_path):
    fill(tmp_path, ["b.png", "a/z.jpg"])
    assert [file.path for file in list_suspects([tmp_path], recursive=False)] == [f"{tmp_path}/b.png"]


def test_a_pattern_stands_for_its_matches_sorted(tmp_path):
    fill(tmp_path, ["b.png", "a.png", "c.jpg", "deep/d.png", "notes.txt", ".hidden.png", "out/x.png", "[1].png"])
    assert shown(tmp_path / "*.png") == [f"{tmp_path}/{name}" for name in ("[1].png", "a.png", "b.png")]
    assert shown(f"{tmp_path}/?.*") == [f"{tmp_path}/{name}" for name in ("a.png", "b.png", "c.jpg")]
    names = ["[1].png", "a.png", "b.png", "deep/d.png", "out/x.png"]
    assert shown(tmp_path / "**" / "*.png") == [f"{tmp_path}/{name}" for name in names]
    assert shown(tmp_path / "[1].png") == [f"{tmp_path}/[1].png"]  # a file of that name is that file
    assert len(list(list_suspects([tmp_path / "*"], tmp_path / "out"))) == 5  # deep is searched, out and notes are not
    with pytest.raises(ValueError, match=r"\*\.gif: found no such file and none that matches"):
        list_suspects([tmp_path / "*.gif"])


LISTED = ["b.png", "sub/a.png", "gone.png"]
CSV = "camera,path\n" + "".join(f'"x, y",{name}\n' for name in [*LISTED, "./b.png"])
JSONL = "".join(json.dumps({"path": name, "n": 1}) + "\n\n" for name in LISTED)


@pytest.mark.parametrize(("name", "text"), [("l.csv", CSV), ("l.csv", "\ufeff" + CSV), ("l.jsonl", JSONL)])
def test_a_list_gives_paths_from_its_own_folder_in_its_order(tmp_path, name, text):
    fill(tmp_path, ["b.png", "sub/a.png", "z.png"])
    (tmp_path / name).write_text(text)
    assert shown(tmp_path / name) == [f"{tmp_path}/{path}" for path in LISTED]
    suspects = read_all(tmp_path / name)
    assert {n: s.error and s.error.kind for n, s in suspects.items()} == {
        "b.png": None,
        "a.png": None,
        "gone.png": "unreadable",
    }
    assert shown(tmp_path) == [f"{tmp_path}/{n}" for n in ("b.png", "sub/a.png", "z.png")]  # no list in a folder


def test_a_list_may_name_anything_and_nothing_of_it_stops_the_rest(tmp_path):
    fill(tmp_path, ["good.png"])
    os.mkfifo(tmp_path / "pipe")
    odd = ["pipe", "sub\0.png", "\ud800.png", "x" * 5000, ".", "good.png"]
    (tmp_path / "l.jsonl").write_text("".join(json.dumps({"path": name}) + "\n" for name in odd))
    suspects = [read_suspect(file) for file in list_suspects([tmp_path / "l.jsonl"])]
    assert [s.error and s.error.kind for s in suspects] == ["unreadable"] * 5 + [None]
    for suspect in suspects:
        assert suspect.error is None or "\0" not in suspect.error.message
        json.dumps(suspect.path, ensure_ascii=False).encode()
    (tmp_path / "l.csv").write_bytes(b"path\nbyte\xff.png\n")
    (file,) = list_suspects([tmp_path / "l.csv"])
    assert file.path.endswith("byte\\udcff.png") and os.fsencode(file.file).endswith(b"byte\xff.png")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("l.csv", "file,source\na.png,x\n", "found the columns file, source, expected one named path"),
        ("l.csv", "", "found the columns none, expected one named path"),
        ("l.csv", "source,path\nx\n", "found no path in line 2"),
        ("l.csv", "path\n" + "x" * 200_000 + "\n", "found damage after line 1"),
        ("l.jsonl", '{"path": "a.png"}\nno json\n', "found a line 2 that is no JSON"),
        ("l.jsonl", '{"path": 7}\n', "found no path in line 1"),
        ("l.jsonl", '["path"]\n', "found no path in line 1"),
        ("l.jsonl", "[" * 100_000, "found a line 1 that is no JSON"),
        ("l.csv", "path\nout/x.png\n", "found a suspect inside --out in line 2"),
    ],
)
def test_what_is_no_list_is_an_error_that_names_the_line(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=f"{name}: {message}"):
        list(list_suspects([tmp_path / name], tmp_path / "out"))


def test_names_in_a_zip_reach_no_file_outside_it(tmp_path):
    (tmp_path / "outside.png").write_bytes(saved(SQUARE))
    names = ["../outside.png", "/etc/passwd", "a/../../outside.png", "C:\\x.png", "x" * 4000 + ".png", "a\nb\u202e.png"]
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name in names:
            archive.writestr(name, PNG)
    before = sorted(tmp_path.rglob("*"))
    suspects = [read_suspect(file) for file in list_suspects([tmp_path / "x.zip"])]
    assert {s.path for s in suspects} == {f"{tmp_path}/x.zip/{name}" for name in names}
    assert {s.sha256 for s in suspects} == {hashlib.sha256(PNG).hexdigest()}
    assert sorted(tmp_path.rglob("*")) == before


def test_a_zip_member_above_the_size_limit_is_not_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.png", bytes(10**6))
    (file,) = list_suspects([tmp_path / "x.zip"])
    suspect = read_suspect(file, Limits(max_bytes=10**6 - 1))
    assert suspect.error is not None and suspect.error.kind == "refused" and suspect.sha256 is None


def test_pipes_and_linked_folders_are_passed_over_and_dead_links_reported(tmp_path):
    folder = tmp_path / "folder"
    fill(folder, ["x.png"])
    os.mkfifo(folder / "pipe.png")
    (folder / "loop").symlink_to(folder)
    (folder / "dead.png").symlink_to(tmp_path / "nowhere.png")
    suspects = read_all(folder)
    assert list(suspects) == ["dead.png", "x.png"]
    assert suspects["dead.png"].error is not None and suspects["dead.png"].sha256 is None


NASTY = ["<script>alert(1)<!--.png", "line\nbreak.png", 'quote".png', "ünï ✓.png", os.fsdecode(b"byte\xff.png")]


def test_any_file_name_is_safe_in_json(tmp_path):
    fill(tmp_path, NASTY)
    suspects = [read_suspect(file) for file in list_suspects([tmp_path])]
    assert len(suspects) == len(NASTY) and all(s.error is None for s in suspects)
    for suspect in suspects:
        text = json.dumps(asdict(replace(suspect, pixels=None)), ensure_ascii=False, allow_nan=False)
        assert json.loads(text.encode("utf-8"))["path"] == suspect.path
    assert {f"{tmp_path}/{name}" for name in NASTY[:-1]} < {s.path for s in suspects}


def test_a_bad_file_is_reported_and_the_rest_goes_on(tmp_path):
    fill(tmp_path, ["good.png"])
    fill(tmp_path, ["text.png"], b"this is not an image\n")
    fill(tmp_path, ["cut.jpg"], saved(PIXELS, "JPEG")[:-40])
    fill(tmp_path, ["empty.webp"], b"")
    fill(tmp_path, ["inner.zip"], b"PK\x03\x04...")
    suspects = read_all(tmp_path)
    kinds = {name: s.error and s.error.kind for name, s in suspects.items()}
    bad = dict.fromkeys(["cut.jpg", "empty.webp", "text.png"], "unreadable")
    assert kinds == {**bad, "inner.zip": "refused", "good.png": None}
    text = suspects["text.png"]
    assert text.error is not None and "found text, expected" in text.error.message
    assert text.sha256 == hashlib.sha256(b"this is not an image\n").hexdigest()
    assert (text.pixels, text.pixels_sha256, text.width, text.format, text.intake) == (None, None, None, None, ())
    good = suspects["good.png"].pixels
    assert good is not None and np.array_equal(good, PIXELS)


def test_a_suspect_carries_both_hashes_and_its_transforms():
    suspect = suspect_from_bytes(PNG + b"tail", "x.png")
    assert suspect.sha256 == hashlib.sha256(PNG + b"tail").hexdigest()
    assert suspect.pixels_sha256 == hashlib.sha256(b"7x5:" + PIXELS.tobytes()).hexdigest()
    assert [t["step"] for t in suspect.intake] == ["decode", "trailing_bytes"]
    assert (suspect.width, suspect.height, suspect.format, suspect.codec) == (7, 5, "PNG", "png")


def test_a_file_above_the_size_limit_is_hashed_but_refused(tmp_path):
    fill(tmp_path, ["x.png"])
    (file,) = list_suspects([tmp_path])
    suspect = read_suspect(file, Limits(max_bytes=len(PNG) - 1))
    assert suspect.error is not None and suspect.error.kind == "refused"
    assert suspect.sha256 == hashlib.sha256(PNG).hexdigest()
    assert read_suspect(file, Limits(max_bytes=len(PNG))).error is None


def test_zip_members_are_read_by_place_so_that_none_hides_behind_its_name(tmp_path):
    other = saved(SQUARE)
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("same.png", PNG)
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("same.png", other)
    suspects = [read_suspect(pickle.loads(pickle.dumps(f))) for f in list_suspects([tmp_path / "x.zip"])]
    assert [s.sha256 for s in suspects] == [hashlib.sha256(data).hexdigest() for data in (PNG, other)]


def test_a_damaged_zip_member_is_reported_and_the_rest_goes_on(tmp_path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("bad.png", PNG)
        archive.writestr("good.png", PNG)
    data = path.read_bytes()
    path.write_bytes(data.replace(PNG, PNG[:-20] + bytes(20), 1))
    suspects = read_all(path)
    assert suspects["bad.png"].error is not None and suspects["bad.png"].error.kind == "unreadable"
    assert suspects["good.png"].error is None


def test_an_image_with_a_zip_behind_it_is_an_image(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("inside.png", PNG)
    (tmp_path / "both.png").write_bytes(PNG + (tmp_path / "x.zip").read_bytes())
    (file,) = list_suspects([tmp_path / "both.png"])
    assert read_suspect(file).intake[-1]["step"] == "trailing_bytes"


@given(st.binary(max_size=60))
def test_no_content_makes_reading_raise(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.png"
    path.write_bytes(content)
    assert read_suspect(SuspectFile("any.png", str(path))).error is not None


def test_files_that_are_alike_share_what_is_said_of_them(tmp_path):
    fill(tmp_path, ["a.png", "b.png"])
    fill(tmp_path, ["c.jpg"], saved(PIXELS, "JPEG"))
    shared: dict[str, Any] = {}
    with DecodingProcess() as process:
        suspects = [read_suspect(file, decode=process.decode) for file in list_suspects([tmp_path])]
    slim = [_slim(IntakeRecord(s, ()), shared).suspect for s in suspects]
    assert slim == suspects and [s.facts for s in slim] == [s.facts for s in suspects]
    assert slim[0].facts is slim[1].facts and slim[0].intake[0] is slim[1].intake[0]
    assert slim[2].facts is not slim[0].facts


def test_intake_settings_are_checked():
    with pytest.raises(ValueError, match="--frame: found 0, expected 1 or more"):
        IntakeSettings(frame=0)
    with pytest.raises(ValueError, match="--max-files: found 0, expected 1 or more"):
        IntakeSettings(max_files=0)


def test_a_generated_image_comes_through_intake_unchanged():
    target = prepare_target(suspect_from_bytes(encode_png(SQUARE), "g"), 5)
    assert np.array_equal(target.pixels, SQUARE)
    assert target.sha256 == pixels_sha256(SQUARE) and target.transforms == ()


def test_a_target_is_the_square_that_was_asked_for():
    suspect = suspect_from_bytes(PNG, "x.png")
    with pytest.raises(ImageError, match="7 x 5 pixels, expected a square"):
        prepare_target(suspect, 5)
    assert (prepare_side(suspect, "crop"), prepare_side(suspect, "letterbox")) == (5, 7)
    cropped = prepare_target(suspect, 5, "crop")
    assert np.array_equal(cropped.pixels, PIXELS[:, 1:6]) and cropped.sha256 == pixels_sha256(PIXELS[:, 1:6])
    with pytest.raises(ValueError, match="no decoded pixels"):
        prepare_target(suspect_from_bytes(b"", "x.png"), 5, "crop")


@pytest.mark.parametrize(
    ("data", "label"),
    [
        (saved(SQUARE, "GIF"), "png, scale 0.5"),
        (saved(SQUARE, "JPEG", quality=75), "jpeg q75, scale 0.5"),
        (saved(SQUARE, "WEBP"), "webp, scale 0.5"),
    ],
)
def test_a_stratum_is_estimated_from_the_file(data, label):
    suspect = suspect_from_bytes(data, "x")
    stratum = estimate_stratum(suspect, prepare_side(suspect), 10)
    assert stratum.label() == label
    assert Stratum.from_json(json.loads(json.dumps(stratum.to_json()))) == stratum


PNG_1, PNG_2 = Stratum("png"), Stratum("png", None, 2.0)
Q75, Q80 = Stratum("jpeg", 75), Stratum("jpeg", 80)


@pytest.mark.parametrize(
    ("stratum", "match"),
    [
        (Stratum("png", None, 1.1), PNG_1),
        (Stratum("png", None, 0.9), PNG_1),
        (Stratum("png", None, 1.11), None),
        (Stratum("png", None, 2.1), PNG_2),
        (Stratum("jpeg", 70), Q75),
        (Stratum("jpeg", 77), Q75),
        (Stratum("jpeg", 78), Q80),
        (Stratum("jpeg", 85), Q80),
        (Stratum("jpeg", 86), None),
        (Stratum("jpeg", 69), None),
        (Stratum("jpeg", 75, 2.0), None),
        (Stratum("jpeg", None), None),
        (Stratum("webp"), None),
    ],
)
def test_a_stratum_matches_the_nearest_calibrated_one_within_5_and_10_percent(stratum, match):
    assert match_stratum(stratum, [PNG_1, PNG_2, Q75, Q80]) == match
