"""`latentprint train` through the entry point: augmentation, transfer, and what is refused."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import cli
from generator import load_generator
from generator.files import file_sha256, read_provenance
from tests.cases import TINY, tiny_generator, write_reals
from tests.checkpoint_writers.networks import varied_discriminator, varied_generator, write_checkpoint
from tests.commands import run_command
from training.config import TrainingConfig
from training.estimate import estimate
from training.presets import PRESETS

ROOT = Path(__file__).parents[1]
BATCH = 4
TINY_RUN = TrainingConfig(network=TINY, batch=BATCH, kimg=2 * BATCH / 1000, mbstd_group_size=2, style_mixing=0)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a few real images and a generator."""
    folder = tmp_path_factory.mktemp("world")
    write_reals(folder / "reals", 6)
    tiny_generator(folder / "parent.safetensors", 0)
    return folder


@pytest.fixture
def train(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """latentprint train --data REALS --out DIR ARGUMENTS -> (exit code, stdout, stderr), of tiny networks."""
    monkeypatch.setitem(PRESETS, "small-64", TINY_RUN)

    def run(*arguments: object, out: str = "run") -> tuple[int, str, str]:
        fixed = ["train", "--data", world / "reals", "--out", tmp_path / out, "--device", "cpu"]
        return run_command(*fixed, *arguments), *capsys.readouterr()

    return run


def settings(tmp_path: Path, out: str = "run") -> dict:
    return read_provenance(tmp_path / out / "generator.safetensors")["training"]


def assert_refused(result: tuple[int, str, str], *named: str) -> None:
    """One sentence at the end of stderr that holds all that is named, and exit code 2."""
    code, out, err = result
    assert (code, out) == (2, ""), result
    assert err.count("latentprint: ") == 1 and "Traceback" not in err
    last = err.splitlines()[-1]
    assert last.startswith("latentprint: ")
    for text in named:
        assert text in last


def test_training_says_what_it_made(train, tmp_path: Path) -> None:
    code, out, _ = train()
    assert code == 0
    assert " images/s, 0.00 device-hours" in out.replace("\n", " ")
    assert out.startswith("6 training images") and out.rstrip().endswith(
        str(tmp_path / "run" / "generator.safetensors")
    )
    assert settings(tmp_path)["augment"] == [] and settings(tmp_path)["parent_sha256"] == ""


def test_a_run_from_a_file_with_augmentation(train, world: Path, tmp_path: Path) -> None:
    parent = world / "parent.safetensors"
    options = ["--lr", 0.001, "--ema-kimg", 10, "--init", parent]
    options += ["--warmup-kimg", 0.004, "--ada-kimg", 100, "--augment", "colour,cutout"]
    assert train(*options)[0] == 0
    found = settings(tmp_path)
    assert found["parent_sha256"] == file_sha256(parent)
    assert (found["warmup_kimg"], found["ada_kimg"], found["augment"]) == (0.004, 100, ["colour", "cutout"])
    assert (found["lr"], found["ema_kimg"]) == (0.001, 10)
    step, snapshot = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    assert {"p", "r_t", "loss_g"} <= step.keys() and "contribution_4" in snapshot

    first = file_sha256(tmp_path / "run" / "generator.safetensors")
    assert train(*options)[0] == 0  # the same again: nothing left to do
    assert file_sha256(tmp_path / "run" / "generator.safetensors") == first
    assert_refused(train(*options[:4], *options[6:]), "checkpoint.pt", "parent_sha256")
    assert_refused(train(*options[:-1], "blit"), "checkpoint.pt", "augment", "blit")


def test_augmentation_can_be_turned_off(train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "stylegan2-e", replace(TINY_RUN, augment=("blit",)))
    assert train("--config", "stylegan2-e")[0] == 0
    assert settings(tmp_path)["augment"] == ["blit"]
    assert train("--config", "stylegan2-e", "--augment", "none", out="off")[0] == 0
    assert settings(tmp_path, "off")["augment"] == []


@pytest.mark.parametrize("augment", ["color", "blit,color", "blit, colour", "none,blit", "", ",", "bgc"])
def test_an_unknown_category_is_named(train, augment: str) -> None:
    assert_refused(train("--augment", augment), "--augment", "expected some of blit, geometry, colour, filter")


@pytest.mark.parametrize("option", ["--kimg", "--snapshot-kimg", "--ada-kimg", "--warmup-kimg"])
@pytest.mark.parametrize("value", ["-1", "nan", "inf"])
def test_what_is_no_number_of_images_is_named(train, option: str, value: str) -> None:
    assert_refused(train(option, value), f"{option}: found {value}", "expected")


@pytest.mark.parametrize("option", ["--kimg", "--snapshot-kimg", "--ada-kimg"])
@pytest.mark.parametrize("value", ["0.0", "0.0009"])
def test_less_than_one_image_is_named(train, option: str, value: str) -> None:
    assert_refused(train(option, value), f"{option}: found {value}, expected at least 0.001 (one image)")


def test_a_negative_seed_is_named(train) -> None:
    assert_refused(train("--seed", -1), "--seed: found -1, expected at least 0")


@pytest.mark.parametrize("option", ["--kimg", "--snapshot-kimg", "--ada-kimg", "--warmup-kimg", "--batch"])
def test_words_are_named(train, option: str) -> None:
    assert_refused(train(option, "many"), f"'{option}'")


def test_an_unknown_configuration_is_named(train) -> None:
    assert_refused(train("--config", "huge"), "--config", "'huge'", "small-64")


def test_auto_takes_the_resolution_of_the_images(train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.presets._ADA", replace(TINY_RUN, network=TINY, gamma=1, augment=("blit",)))
    monkeypatch.setattr("training.presets.HALF", 128)
    assert train("--config", "auto", "--batch", 4)[0] == 0
    found = settings(tmp_path)
    assert found["network"]["resolution"] == 16 and found["gamma"] == pytest.approx(0.0002 * 16 * 16 / 4)
    assert_refused(train("--config", "auto", "--resolution", 8), "000.png: found 16x16, expected 8x8")
    assert_refused(train("--config", "auto", "--resolution", 12), "--resolution: found 12, expected a power of two")


def test_a_preset_that_mirrors_can_be_told_not_to(train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "ada-512", replace(TINY_RUN, x_flip=True))
    assert train("--config", "ada-512")[0] == 0 and settings(tmp_path)["x_flip"]
    assert train("--config", "ada-512", "--no-x-flip", "--gamma", 0.25, out="off")[0] == 0
    assert not settings(tmp_path, "off")["x_flip"] and settings(tmp_path, "off")["gamma"] == 0.25


def test_precision_and_loss_can_be_chosen(train, tmp_path: Path) -> None:
    assert train("--precision", "bf16", "--loss", "lsgan")[0] == 0
    assert (settings(tmp_path)["precision"], settings(tmp_path)["loss"]) == ("bf16", "lsgan")
    assert_refused(train("--precision", "fp8"), "--precision: found 'fp8', expected one of fp32, bf16, fp16")
    assert_refused(train("--loss", "hinge"), "--loss: found 'hinge', expected one of logistic, lsgan, wgan-gp")


@pytest.mark.parametrize("name", ["bcr", "zcr", "rotation", "pa-gan", "dropout", "spectral-d", "spectral-g"])
def test_a_regulariser_to_compare_with(train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    assert train("--regularise", name)[0] == 0 and settings(tmp_path)["regularise"] == [name]
    assert train("--kimg", 0.004, "--regularise", name, out="twice")[0] == 0
    assert train("--regularise", name, out="twice")[0] == 0  # goes on
    once, twice = (load_file(tmp_path / run / "generator.safetensors") for run in ("run", "twice"))
    assert once.keys() == twice.keys() and all(torch.equal(once[key], twice[key]) for key in once)
    assert load_generator(tmp_path / "run" / "generator.safetensors").config == TINY


def test_an_unknown_regulariser_is_named(train) -> None:
    assert_refused(train("--regularise", "bcr,cutmix"), "--regularise: found 'cutmix', expected some of bcr, zcr")
    assert_refused(train("--regularise", "pa-gan", "--augment", "blit"), "--regularise: found pa-gan with augmentation")
    assert train("--regularise", "none", "--dry-run")[0] == 0


def test_fp16_comes_with_its_clamp_and_takes_the_highest_resolutions(train, tmp_path: Path) -> None:
    assert train("--precision", "fp16", "--half-resolutions", 2)[0] == 0
    found = settings(tmp_path)
    assert (found["precision"], found["half_resolutions"], found["network"]["clamp"]) == ("fp16", 2, 256)
    assert load_generator(tmp_path / "run" / "generator.safetensors").config.clamp == 256
    assert_refused(train("--half-resolutions", 0), "--half-resolutions: found 0, expected at least 1")


def test_the_depth_of_the_mapping_network(train, tmp_path: Path) -> None:
    assert train("--mapping-layers", 1)[0] == 0
    assert len(load_generator(tmp_path / "run" / "generator.safetensors").mapping.layers) == 1
    assert_refused(train("--mapping-layers", 0), "--mapping-layers: found 0, expected 1 to 64")


def test_a_missing_parent_is_named(train, tmp_path: Path) -> None:
    for path in (tmp_path / "none.safetensors", tmp_path):
        assert_refused(train("--init", path), str(path))
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n" + bytes(64)])
def test_a_parent_that_is_no_generator_file_is_named(train, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "g.safetensors").write_bytes(content)
    assert_refused(train("--init", tmp_path / "g.safetensors"), "g.safetensors", "expected a generator file")


def test_a_run_has_the_network_of_the_file_it_starts_from(
    train, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the preset's; a clamp is added where half precision brings one."""
    monkeypatch.setitem(PRESETS, "small-64", replace(TINY_RUN, network=replace(TINY, w_dim=6, resolution=32, clamp=9)))
    parent = world / "parent.safetensors"
    code, out, _ = train("--init", parent, "--dry-run")
    assert code == 0 and {"resolution: 16", "w_dim: 8"} <= set(out.splitlines())
    assert train("--init", parent)[0] == 0
    made = load_generator(tmp_path / "run" / "generator.safetensors").config
    assert made == replace(load_generator(parent).config, clamp=9)
    assert_refused(train("--init", parent, "--mapping-layers", 5), "--mapping-layers: found 5, expected ", "of --init")
    assert_refused(train("--init", parent, "--resolution", 32), "--resolution: found 32, expected 16")


def test_a_foreign_checkpoint_is_trained_on_with_its_discriminator(train, tmp_path: Path) -> None:
    config = replace(TINY, mapping_layers=8, w_dim=TINY.z_dim)
    G, D = varied_generator(config), varied_discriminator(config, mbstd_group_size=TINY_RUN.mbstd_group_size)
    path = write_checkpoint(tmp_path / "foreign.pt", "rosinality", G, D=D)
    assert train("--init", path, "--freeze-d", 1)[0] == 0
    made = tmp_path / "run" / "generator.safetensors"
    assert load_generator(made).config == G.config
    frozen = load_file(made.with_name("generator.discriminator.safetensors"))
    assert torch.equal(frozen["from_rgb.weight"], D.state_dict()["from_rgb.weight"])
    assert settings(tmp_path)["parent_sha256"] == file_sha256(path)


def test_a_run_that_is_terminated_says_so_and_loses_nothing(world: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [sys.executable, "-m", "cli", "train", "--data", world / "reals", "--config", "auto", "--batch", "4"]
    command += ["--kimg", "100", "--seed", "3", "--out", out, "--device", "cpu"]
    process = subprocess.Popen(list(map(str, command)), cwd=ROOT, stderr=subprocess.PIPE, text=True)
    while not (out / "checkpoint.pt").exists():  # that of the start
        assert process.poll() is None, process.stderr and process.stderr.read()
        time.sleep(0.05)
    time.sleep(1)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "latentprint: interrupted; the same command goes on where this one stopped" in err
    assert torch.load(out / "checkpoint.pt", weights_only=True)["state"]["step"] > 0


def test_a_damaged_discriminator_is_named(train, world: Path, tmp_path: Path) -> None:
    (tmp_path / "g.safetensors").write_bytes((world / "parent.safetensors").read_bytes())
    (tmp_path / "g.discriminator.safetensors").write_bytes(b"hello")
    result = train("--init", tmp_path / "g.safetensors")
    assert_refused(result, "g.discriminator.safetensors", "expected a discriminator file")


def test_a_dry_run_says_what_it_would_do_and_does_nothing(train, tmp_path: Path) -> None:
    code, out, _ = train("--dry-run", "--batch", 8, "--x-flip")
    assert code == 0 and not (tmp_path / "run").exists()
    lines = out.splitlines()
    assert {"resolution: 16", "batch: 8", "x_flip: True", "training images: 6 (not opened)"} <= set(lines)
    costs = estimate(replace(TINY_RUN, batch=8))
    assert f"parameters: G {costs.generator_parameters:,}, D {costs.discriminator_parameters:,}" in lines
    assert any(line.startswith("GFLOP: ") for line in lines) and any(line.startswith("memory, GB: ") for line in lines)
    assert_refused(train("--dry-run", "--kimg", 0), "--kimg: found 0")
    assert_refused(train("--dry-run", "--batch", 6, "--accumulate", 4), "--batch: found 6 images in ", "--accumulate")


def test_freezing_layers_of_the_discriminator(train, tmp_path: Path) -> None:
    assert train("--kimg", 0.004, out="first")[0] == 0
    parent = tmp_path / "first" / "generator.safetensors"
    assert train("--init", parent, "--freeze-d", 1)[0] == 0
    assert settings(tmp_path)["freeze_d"] == 1
    first, second = (load_file(tmp_path / run / "generator.discriminator.safetensors") for run in ("first", "run"))
    same = {name for name, tensor in first.items() if torch.equal(tensor, second[name])}
    assert {"from_rgb.weight", "blocks.0.conv1.weight"} <= same and "blocks.1.conv1.weight" not in same


def test_what_cannot_be_frozen_is_named(train, world: Path, tmp_path: Path) -> None:
    assert_refused(train("--freeze-d", 1), "--freeze-d: found 1 without --init")
    missing = "parent.discriminator.safetensors"
    assert_refused(train("--init", world / "parent.safetensors", "--freeze-d", 1), "--freeze-d", missing)
    for n in (-1, 3):
        assert_refused(train("--freeze-d", n), f"--freeze-d: found {n}, expected 0 to 2")


def test_accumulating_in_parts(train, tmp_path: Path) -> None:
    assert train("--accumulate", 2)[0] == 0 and settings(tmp_path)["accumulate"] == 2
    assert_refused(train("--accumulate", 4, out="four"), "--batch: found 4 images in 2 groups", "--accumulate")
    assert not (tmp_path / "four").exists()


def test_a_run_that_leaves_the_numbers_says_where(train, tmp_path: Path) -> None:
    code, out, err = train("--gamma", 1e38)
    assert (code, out) == (1, "") and "Traceback" not in err
    assert err.splitlines()[-1].startswith("latentprint: step ")
    assert "the last good checkpoint is " in err and ", of step 0" in err


def test_classes_from_folders_to_images(
    train, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert_refused(train("--conditional"), "000.png in no folder and no dataset.json")
    for i, path in enumerate(sorted((world / "reals").glob("*.png"))):
        folder = tmp_path / "classes" / ("even" if i % 2 == 0 else "odd")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / path.name).write_bytes(path.read_bytes())
    data = ["--data", tmp_path / "classes", "--conditional"]
    code, out, _ = train(*data, "--dry-run")
    assert code == 0 and "c_dim: 2" in out.splitlines()
    assert train(*data)[0] == 0
    path = tmp_path / "run" / "generator.safetensors"
    assert read_provenance(path)["classes"] == ["even", "odd"]

    def generate(*arguments: object) -> int:
        fixed = ["latentprint", "generate", "--generator", path, "--seeds", "0-3"]
        out = tmp_path / f"images-{arguments[-1]}"
        monkeypatch.setattr(sys, "argv", list(map(str, [*fixed, "--out", out, *arguments])))
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return int(stop.value.code or 0)

    images = []
    for label in (0, 1):
        assert generate("--label", label) == 0
        images.append([(tmp_path / f"images-{label}" / f"seed{i:06d}.png").read_bytes() for i in range(4)])
    assert all(a != b for a, b in zip(*images, strict=True))
    capsys.readouterr()
    assert generate("--label", 2) == 2
    assert "label: found 2, expected a class from 0 to 1" in capsys.readouterr().err


def test_the_best_generator_is_kept(train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert train("--evaluate-kimg", 0.004, "--metrics", "fd_vgg16,swd")[0] == 0
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    judged = [line for line in lines if "fd_vgg16" in line]
    assert [line["kimg"] for line in judged] == [0.004, 0.008] and all("swd" in line for line in judged)
    best = read_provenance(tmp_path / "run" / "best.safetensors")
    assert best["best"] == {"metric": "fd_vgg16", "value": min(line["fd_vgg16"] for line in judged)}
    assert len(list((tmp_path / "cache").rglob("*.safetensors"))) == 1  # of the images, whose features stay the same
    assert_refused(train("--evaluate-kimg", 0, out="new"), "--evaluate-kimg: found 0")
    assert_refused(train("--metrics", "ms_ssim", out="new"), "--metrics: found it without --evaluate-kimg")
    assert_refused(train("--evaluate-kimg", 1, "--metrics", "fid", out="new"), "metrics: found fid without --inception")
    assert not (tmp_path / "new").exists()


def test_tensorboard_is_an_extra(train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert train("--tensorboard")[0] == 0
    assert len(list((tmp_path / "run" / "tensorboard").glob("events.*"))) == 1
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert_refused(train("--tensorboard", out="new"), "--tensorboard: found no package tensorboard", "pip install")
    assert not (tmp_path / "new").exists()
    assert train(out="new")[0] == 0  # and nobody else needs it
