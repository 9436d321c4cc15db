"""Decoding in another process: the same pixels as here, and hostile files that cost nothing but themselves."""

import os
import pickle
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from generator.containers import ImageError
from generator.decoding import Limits, decode
from generator.isolation import DecodingProcess
from tests.image_files import PIXELS, RNG, saved

# Stands for a fault in a decoder: what a PNG's text "fault" says happens when its pixels are loaded.
FAULTS = """
import ctypes, os, time
from PIL import PngImagePlugin
load, loaded = PngImagePlugin.PngImageFile.load, []

def faulty(image):
    fault = image.info.get("fault", "")
    if fault == "crash" or (fault == "crash after others" and any(i is not image for i in loaded)):
        ctypes.string_at(0)
    while fault == "hang":
        pass
    if fault == "sleep":
        time.sleep(60)
    if fault == "memory":
        bytearray(2**40)
    if fault == "exit":
        os._exit(3)
    if fault == "print":
        os.write(1, b"from the file\\n")
        os.write(2, b"from the file\\n")
    if fault == "write":
        os.write(os.open(os.environ["FAULT_FILE"], os.O_WRONLY | os.O_CREAT), b"from the file")
    loaded.append(image)
    return load(image)

PngImagePlugin.PngImageFile.load = faulty
"""


@pytest.fixture
def process() -> Iterator[DecodingProcess]:
    with DecodingProcess() as process:
        yield process


@pytest.fixture
def faulty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DecodingProcess]:
    (tmp_path / "sitecustomize.py").write_text(FAULTS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("FAULT_FILE", str(tmp_path / "written"))
    with DecodingProcess() as process:
        yield process


def png_that(fault: str) -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_text("fault", fault)
    return saved(PIXELS, pnginfo=info)


def said(process: DecodingProcess, data: bytes, limits: Limits | None = None) -> tuple[str, str]:
    with pytest.raises(ImageError) as caught:
        process.decode(data, limits or Limits())
    return caught.value.kind, caught.value.message


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF"])
def test_the_result_is_that_of_decoding_here(process, file_format):
    data = saved(PIXELS, file_format)
    here, there = decode(data), process.decode(data)
    assert there == here and np.array_equal(there.pixels, here.pixels)
    assert here.facts is None and there.facts is not None and there.facts["problems"] == []


def test_an_error_is_that_of_decoding_here_and_the_process_goes_on(process):
    limits = Limits(max_pixels=34)
    for data in (b"", b"text", saved(PIXELS, "JPEG")[:-9], saved(PIXELS)):
        with pytest.raises(ImageError) as here:
            decode(data, limits)
        assert said(process, data, limits) == (here.value.kind, here.value.message)
    first = process.pid
    assert process.decode(saved(PIXELS)).width == 7 and process.pid == first


def test_a_frame_can_be_chosen(process):
    frames = [Image.fromarray(RNG.integers(0, 256, (6, 6, 3), dtype=np.uint8)) for _ in range(2)]
    data = saved(frames[0], "TIFF", save_all=True, append_images=frames[1:])
    assert np.array_equal(process.decode(data, frame=2).pixels, np.asarray(frames[1]))


@pytest.mark.parametrize(
    ("fault", "kind", "message"),
    [
        ("crash", "unreadable", "found a file that ended its decoder (SIGSEGV), expected a complete image"),
        ("exit", "unreadable", "found a file that ended its decoder (exit code 3), expected a complete image"),
        (
            "hang",
            "refused",
            "found an image that was not decoded in 0.5 seconds of processor time, expected one that is",
        ),
        (
            "memory",
            "refused",
            "found an image that takes more memory to decode than there is, expected at most 515 MiB",
        ),
    ],
)
def test_a_fault_of_the_decoder_costs_one_file_and_is_told_in_one_sentence(faulty, fault, kind, message):
    limits = Limits(max_pixels=10_000, max_bytes=2**20, seconds=0.5)
    for _ in range(2):
        assert said(faulty, png_that(fault), limits) == (kind, message)
        assert np.array_equal(faulty.decode(saved(PIXELS), limits).pixels, PIXELS)


def test_a_decoder_that_waits_is_ended_too(faulty):
    kind, message = said(faulty, png_that("sleep"), Limits(seconds=0.2))
    assert kind == "refused" and "not decoded in 0.2 seconds" in message


def test_a_file_that_fails_because_of_those_before_it_is_decoded_alone(faulty):
    faulty.decode(saved(PIXELS))
    first = faulty.pid
    assert np.array_equal(faulty.decode(png_that("crash after others")).pixels, PIXELS)
    assert faulty.pid != first


def test_what_a_decoder_prints_is_not_seen_and_it_can_write_no_file(faulty, tmp_path, capfd):
    assert np.array_equal(faulty.decode(png_that("print")).pixels, PIXELS)
    assert capfd.readouterr() == ("", "")
    assert said(faulty, png_that("write"))[0] == "unreadable"
    assert not (tmp_path / "written").exists() or (tmp_path / "written").stat().st_size == 0


def test_a_process_that_was_killed_is_replaced(process):
    process.decode(saved(PIXELS))
    os.kill(process.pid, signal.SIGKILL)
    assert np.array_equal(process.decode(saved(PIXELS)).pixels, PIXELS)


def test_a_process_that_cannot_start_is_no_fault_of_the_file(monkeypatch):
    monkeypatch.setattr("sys.executable", "/bin/false")
    with DecodingProcess() as process, pytest.raises(RuntimeError, match=r"did not start \(exit code 1\)"):
        process.decode(saved(PIXELS))


def test_closing_ends_the_process_and_a_pickled_one_has_its_own(process):
    process.decode(saved(PIXELS))
    with pickle.loads(pickle.dumps(process)) as other:
        other.decode(saved(PIXELS))
        pids = process.pid, other.pid
    process.close()
    assert len(set(pids)) == 2
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_the_process_does_without_pytorch(faulty, tmp_path):
    (tmp_path / "torch.py").write_text("raise RuntimeError('not needed to decode')")
    assert faulty.decode(saved(PIXELS)).width == 7


@pytest.mark.parametrize("limits", [{"max_pixels": 0}, {"seconds": 0}, {"max_bytes": -1}])
def test_limits_are_above_0(limits):
    with pytest.raises(ValueError, match=f"{next(iter(limits))}: found .*, expected more than 0"):
        Limits(**limits)
