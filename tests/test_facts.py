"""What files say besides their pixels, against files written with known metadata."""

import hashlib
import importlib.util
import json
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from generator.containers import FORMATS
from generator.decoding import decode
from generator.facts import THUMBNAIL_TOLERANCE, Facts, read_facts, thumbnail_difference
from generator.isolation import DecodingProcess
from tests.image_files import PIXELS, chunk, saved

XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>'
REMOTE = b'<x:xmpmeta dcterms:provenance="https://example.org/m.c2pa"/>'
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
KINDS = ("exif", "icc", "xmp", "jpeg", "thumbnail", "trailing_bytes", "c2pa", "enlarged_by")


def facts_of(data: bytes) -> Facts:
    facts = read_facts(data, decode(data))
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert facts.keys() == {*KINDS, "problems"}
    return facts


def exif_with(**tags: str) -> Image.Exif:
    exif = Image.Exif()
    numbers = {"make": 271, "model": 272, "software": 305, "date_time": 306}
    for name, text in tags.items():
        exif[numbers[name]] = text
    return exif


def scene(width: int, height: int, seed: int = 0) -> np.ndarray:
    """A smooth picture, so that it looks alike when it is made small."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def exif_with_thumbnail(thumbnail: bytes, orientation: int = 1) -> bytes:
    """EXIF by hand: a first directory with the orientation, a second with a JPEG thumbnail."""
    first = struct.pack("<HHHIHHI", 1, 0x0112, 3, 1, orientation, 0, 26)
    second = struct.pack("<HHHIHH", 3, 0x0103, 3, 1, 6, 0)
    second += struct.pack("<HHII", 0x0201, 4, 1, 26 + 42) + struct.pack("<HHII", 0x0202, 4, 1, len(thumbnail))
    return b"Exif\0\0II*\0" + struct.pack("<I", 8) + first + second + bytes(4) + thumbnail


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF"])
def test_a_plain_file_has_no_facts_but_a_jpegs_tables(file_format):
    facts = facts_of(saved(PIXELS, file_format))
    assert {name for name in KINDS if facts[name]} == ({"jpeg"} if file_format == "JPEG" else set())
    assert facts["problems"] == []


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP", *(["AVIF"] if "AVIF" in FORMATS else [])])
def test_exif_xmp_and_profile_are_found_with_their_hashes(file_format):
    exif = exif_with(make="Camera", software="Editor 1.0")
    facts = facts_of(saved(PIXELS, file_format, exif=exif.tobytes(), xmp=XMP, icc_profile=ICC))
    if file_format != "PNG":  # Pillow writes none into a PNG
        assert facts["xmp"] == {"bytes": len(XMP), "sha256": hashlib.sha256(XMP).hexdigest()}
    assert facts["icc"]["sha256"] == hashlib.sha256(ICC).hexdigest() and "sRGB" in facts["icc"]["description"]
    found = {name: facts["exif"][name] for name in ("tags", "make", "model", "software", "date_time")}
    assert found == {"tags": 2, "make": "Camera", "model": None, "software": "Editor 1.0", "date_time": None}


def test_metadata_behind_the_pixels_of_a_png_is_found():
    data, blob = saved(PIXELS), exif_with(model="M").tobytes().removeprefix(b"Exif\0\0")
    late = chunk(b"eXIf", blob) + chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)
    facts = facts_of(data[:-12] + late + data[-12:])
    assert facts["exif"]["model"] == "M" and facts["exif"]["sha256"] == hashlib.sha256(blob).hexdigest()
    assert facts["xmp"] is not None


def test_a_tiffs_own_tags_are_its_exif():
    assert facts_of(saved(PIXELS, "TIFF", tiffinfo={305: "Editor"}))["exif"]["software"] == "Editor"


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", "a\u202eb", "x" * 4000, "line\nbreak", "\ud800"])
def test_hostile_text_is_kept_short_and_valid(text):
    data = exif_with(software="S" * 8).tobytes()
    blob = data.replace(b"SSSSSSSS", text.encode("utf-8", "surrogatepass")[:8].ljust(8))
    software = facts_of(saved(PIXELS, "JPEG", exif=blob))["exif"]["software"]
    assert software is None or (len(software) <= 200 and software.encode())
    long = facts_of(saved(PIXELS, "JPEG", exif=exif_with(software="x" * 4000)))["exif"]["software"]
    assert long == "x" * 200


def test_jpeg_tables_are_told_with_their_quality():
    facts = facts_of(saved(PIXELS, "JPEG", quality=83, subsampling=2))["jpeg"]
    assert (facts["quality"], facts["standard_table"], facts["progressive"]) == (83, True, False)
    assert facts["subsampling"] == "4:2:0" and [len(table) for table in facts["tables"]] == [64, 64]
    assert facts["tables"][0][0] == (16 * 34 + 50) // 100  # Annex K's first quantiser at libjpeg's quality 83
    own = facts_of(saved(PIXELS, "JPEG", qtables=[[7] * 64]))["jpeg"]
    assert own["standard_table"] is False and own["tables"] == [[7] * 64]
    assert facts_of(saved(PIXELS, "JPEG", progressive=True))["jpeg"]["progressive"] is True


@pytest.mark.parametrize(("across", "down", "side"), [(1, 1, None), (4, 4, 4), (4, 6, 2), (3, 2, None)])
def test_pixels_repeated_in_squares_are_told(across, down, side):
    pixels = PIXELS.repeat(down, axis=0).repeat(across, axis=1)
    assert facts_of(saved(pixels))["enlarged_by"] == side
    assert facts_of(saved(np.zeros((8, 8, 3), np.uint8)))["enlarged_by"] is None


def test_trailing_bytes_are_told():
    facts = facts_of(saved(PIXELS) + b"more")
    assert facts["trailing_bytes"] == {"count": 4, "sha256": hashlib.sha256(b"more").hexdigest()}


def test_a_thumbnail_of_the_image_does_not_differ_and_another_does():
    large = scene(600, 400)
    for seed in (0, 1):
        small = saved(np.asarray(Image.fromarray(scene(600, 400, seed)).resize((160, 107))), "JPEG", quality=60)
        thumbnail = facts_of(saved(large, "JPEG", exif=exif_with_thumbnail(small)))["thumbnail"]
        assert (thumbnail["width"], thumbnail["height"]) == (160, 107)
        assert thumbnail["sha256"] == hashlib.sha256(small).hexdigest()
        assert thumbnail["differs"] is (seed == 1)


def test_a_thumbnail_with_bars_or_cropped_is_still_of_the_image():
    large = scene(600, 400)
    barred = np.zeros((120, 160, 3), np.uint8)
    barred[6:113] = np.asarray(Image.fromarray(large).resize((160, 107)))
    cropped = np.asarray(Image.fromarray(large[:, 33:567]).resize((160, 120)))
    stored = np.asarray(Image.fromarray(large.transpose(1, 0, 2)).resize((107, 160)))
    assert thumbnail_difference(barred, large) < 10
    assert thumbnail_difference(cropped, large) < 10
    assert thumbnail_difference(stored, large) > THUMBNAIL_TOLERANCE
    assert thumbnail_difference(np.zeros((1, 1, 3), np.uint8), np.full((9, 1, 3), 9, np.uint8)) == 9


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_a_thumbnail_is_turned_with_its_image(orientation):
    large = scene(600, 400)
    small = saved(np.asarray(Image.fromarray(large).resize((160, 107))), "JPEG")
    facts = facts_of(saved(large, "JPEG", exif=exif_with_thumbnail(small, orientation)))
    assert facts["thumbnail"]["mean_difference"] < 10


def test_a_damaged_thumbnail_is_a_problem_and_no_error():
    facts = facts_of(saved(PIXELS, "JPEG", exif=exif_with_thumbnail(b"\xff\xd8\xff rubbish")))
    assert facts["thumbnail"] is None and facts["problems"] == ["thumbnail: ImageError"]


JPEG = saved(PIXELS, "JPEG")
JUMB = struct.pack(">I4sI4s", 100, b"jumb", 60, b"jumd") + b"c2pa" + bytes(80)


@pytest.mark.parametrize(
    ("data", "box"),
    [
        (saved(PIXELS)[:33] + chunk(b"caBX", JUMB) + saved(PIXELS)[33:], "PNG caBX"),
        (
            b"\xff\xd8\xff\xeb" + struct.pack(">H", 10 + len(JUMB)) + b"JP\0\1\0\0\0\1" + JUMB + JPEG[2:],
            "JPEG APP11 (JUMBF)",
        ),
        (saved(PIXELS, "TIFF", tiffinfo={52545: JUMB}), "TIFF tag 52545"),
        pytest.param(
            saved(PIXELS, "AVIF") + struct.pack(">I4s", 24 + 21 + 100, b"uuid")
            + bytes.fromhex("d8fec3d61b0e483c92975828877ec481") + bytes(4) + b"manifest\0" + bytes(8) + JUMB,
            "uuid box",
            marks=pytest.mark.skipif("AVIF" not in FORMATS, reason="no libavif"),
        ),
    ],
    ids=["PNG", "JPEG", "TIFF", "AVIF"],
)  # fmt: skip
def test_the_box_of_a_c2pa_manifest_is_found(data, box):
    c2pa = facts_of(data)["c2pa"]
    assert c2pa["box"] == box and c2pa["bytes"] >= len(JUMB) and c2pa["remote_reference"] is False


def test_a_c2pa_box_in_webp_and_a_manifest_elsewhere_are_found():
    data = saved(PIXELS, "WEBP", xmp=REMOTE)
    longer = data + b"C2PA" + struct.pack("<I", len(JUMB)) + JUMB
    facts = facts_of(data[:4] + struct.pack("<I", len(longer) - 8) + longer[8:])
    found = [{name: f["c2pa"][name] for name in ("box", "bytes", "remote_reference")} for f in (facts, facts_of(data))]
    assert found[0] == {"box": "WEBP C2PA", "bytes": len(JUMB), "remote_reference": True}
    assert found[1] == {"box": None, "bytes": 0, "remote_reference": True}
    assert facts["c2pa"]["manifest"] is None and facts["problems"] == []  # the box holds no manifest


SIGNED = (Path(__file__).parent / "data" / "c2pa.jpg").read_bytes()  # signed with c2pa-python by a made-up authority
HAS_C2PA = importlib.util.find_spec("c2pa") is not None


def test_a_manifest_is_found_without_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "c2pa", None)
    c2pa = facts_of(SIGNED)["c2pa"]
    assert c2pa["box"] == "JPEG APP11 (JUMBF)" and c2pa["bytes"] > 10_000
    assert (c2pa["manifest"], c2pa["problem"]) == (None, None)


@pytest.mark.skipif(not HAS_C2PA, reason="the extra c2pa is not installed")
def test_a_manifest_is_read_and_a_changed_file_told():
    manifest = facts_of(SIGNED)["c2pa"]["manifest"]
    source = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
    assert (manifest["state"], manifest["failures"]) == ("Valid", ["signingCredential.untrusted"])
    assert (manifest["claim_generator"], manifest["issuer"]) == ("a test", "test")
    assert manifest["source_types"] == [source]
    changed = bytearray(SIGNED)
    changed[-20] ^= 1  # a pixel's code
    manifest = facts_of(bytes(changed))["c2pa"]["manifest"]
    assert manifest["state"] == "Invalid" and "assertion.dataHash.mismatch" in manifest["failures"]


@pytest.mark.skipif(not HAS_C2PA, reason="the extra c2pa is not installed")
def test_a_manifest_is_read_within_the_decoding_processs_bounds():
    with DecodingProcess() as process:
        facts = process.decode(SIGNED).facts
    assert facts is not None and facts["c2pa"]["manifest"]["state"] == "Valid"


EXIF_JPEG = saved(PIXELS, "JPEG", exif=exif_with_thumbnail(saved(PIXELS, "JPEG")), xmp=XMP, icc_profile=ICC)
GOOD = decode(EXIF_JPEG)


@given(st.integers(0, len(EXIF_JPEG) - 1), st.integers(1, 255))
def test_damaged_metadata_never_raises(place, flip):
    damaged = bytearray(EXIF_JPEG)
    damaged[place] ^= flip
    json.dumps(read_facts(bytes(damaged), GOOD), allow_nan=False)
