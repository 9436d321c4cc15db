"""What is shipped: every module and data file, and no pixel that its licence keeps out."""

import base64
import csv
import hashlib
import io
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent
EMOJI = ROOT / "tests" / "data" / "emoji-portraits-64.zip"
SOURCES = ["attribution", "generator", "training", "cuda_ops", "reports"]
PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
EMBEDDED_PNG = re.compile(rb"iVBORw0KGgo[A-Za-z0-9+/]+=*")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Iterator[zipfile.ZipFile]:
    """Built from a copy, so that neither an old build directory nor this one's files get in the way."""
    copy, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy(path, copy)
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--disable-pip-version-check"]
    run = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", out, copy], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    (path,) = out.glob("latentprint-*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


def pixel_hash(data: bytes) -> str:
    """SHA-256 of size and canonical RGB bytes."""
    with Image.open(io.BytesIO(data)) as image:
        return hashlib.sha256(f"{image.size}".encode() + image.convert("RGB").tobytes()).hexdigest()


@pytest.fixture(scope="module")
def openmoji() -> dict[str, str]:
    """Pixel hash -> name of every picture whose artist is openmoji."""
    with zipfile.ZipFile(EMOJI) as archive:
        rows = csv.DictReader(io.StringIO(archive.read("index.csv").decode("utf-8")))
        names = [row["file"] for row in rows if row["artist"] == "openmoji"]
        return {pixel_hash(archive.read(name)): name for name in names}


def members(wheel: zipfile.ZipFile) -> set[str]:
    return {name for name in wheel.namelist() if ".dist-info/" not in name}


def test_every_module_is_in_the_wheel_and_nothing_else_is_code(wheel):
    modules = {p.relative_to(ROOT).as_posix() for name in SOURCES for p in (ROOT / name).rglob("*.py")} | {"cli.py"}
    assert {name for name in members(wheel) if name.endswith(".py")} == modules
    assert {name.split("/")[0] for name in members(wheel)} == {*SOURCES, "cli.py"}


def test_every_file_beside_the_modules_is_in_the_wheel(wheel):
    """But the discriminators, which only training from a checkout has a use for, and the sample report."""
    data = {
        path.relative_to(ROOT).as_posix()
        for name in SOURCES
        for path in (ROOT / name).rglob("*")
        if path.is_file()
        and path.suffix != ".py"
        and path.parent.name != "__pycache__"
        and ".discriminator." not in path.name
        and path.parent != ROOT / "reports" / "sample"
    }
    assert {name for name in members(wheel) if not name.endswith(".py")} == data


@pytest.mark.parametrize(
    "name",
    [
        "generator/weights/lpips_vgg16.safetensors",
        "generator/weights/lpips_alexnet.safetensors",
        "generator/models/emoji-a.safetensors",
        "generator/models/emoji-b.safetensors",
        "generator/models/emoji-a.encoder.safetensors",
        "generator/models/emoji-b.encoder.safetensors",
        "attribution/demo/calibration.json",
    ],
)
def test_what_the_product_needs_at_run_time_is_in_the_wheel(wheel, name):
    assert name in members(wheel)


def test_templates_and_demo_suspects_are_in_the_wheel(wheel):
    assert any(PurePosixPath(name).match("reports/templates/*.j2") for name in members(wheel))
    assert any(PurePosixPath(name).match("attribution/demo/suspects/*.png") for name in members(wheel))


def test_the_wheel_carries_its_licences_and_the_command(wheel):
    (info,) = {name.split("/")[0] for name in wheel.namelist() if ".dist-info/" in name}
    notice = wheel.read(f"{info}/licenses/NOTICE").decode()
    assert all(name in notice for name in ("LPIPS", "torchvision", "Noto", "Twemoji", "Fluent", "OpenMoji"))
    assert b"Apache License" in wheel.read(f"{info}/licenses/LICENSE")
    assert b"latentprint = cli:main" in wheel.read(f"{info}/entry_points.txt")


def test_no_picture_in_the_wheel_is_openmoji(wheel, openmoji):
    assert len(openmoji) > 1000
    pictures = [name for name in wheel.namelist() if PurePosixPath(name).suffix.lower() in PICTURES]
    assert pictures
    for name in pictures:
        assert pixel_hash(wheel.read(name)) not in openmoji, f"{name} is {openmoji[pixel_hash(wheel.read(name))]}"


def test_no_embedded_picture_is_openmoji(wheel, openmoji):
    """Run controls are PNG in base64, two generated and two known real images; data URLs have the same form."""
    found = [
        (name, base64.b64decode(match))
        for name in wheel.namelist()
        if not name.endswith(".safetensors")
        for match in EMBEDDED_PNG.findall(wheel.read(name))
    ]
    assert sum(name == "attribution/demo/calibration.json" for name, _ in found) >= 4
    for name, data in found:
        assert pixel_hash(data) not in openmoji, f"{name} embeds {openmoji[pixel_hash(data)]}"


def test_nothing_of_cuda_is_required(wheel):
    """What is of CUDA comes with extras alone."""
    (name,) = (n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))
    required = re.findall(r"^Requires-Dist: (.+)$", wheel.read(name).decode(), re.MULTILINE)
    of_cuda = [line for line in required if re.match(r"(cuda|nvidia|cupy|pynvml|triton)", line)]
    assert of_cuda and all("extra ==" in line for line in of_cuda)
