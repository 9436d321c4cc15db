"""Searches that begin at an encoder's w: from the command that trains it to a case that its calibration covers."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from attribution.projector import project
from attribution.schedules import ProjectionConfig, method_config
from generator import LPIPS, load_generator
from generator.encoder import load_encoder
from generator.files import file_sha256
from tests.cases import tiny_generator, write_reals, write_samples
from tests.commands import Run
from training.encoder import EncoderTraining, train_encoder

QUICK = ["--steps", "2", "--alpha", "0.2", "--delta", "0.2", "--lambda", "0.3", "--batch-size", "4"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two generators with an encoder each, real images and suspects."""
    folder = tmp_path_factory.mktemp("world")
    for seed, name in enumerate("ab"):
        generator = tiny_generator(folder / f"{name}.safetensors", seed)
        train_encoder(generator, folder / f"{name}.encoder.safetensors", EncoderTraining(kimg=0.064))
    write_reals(folder / "reals", 40)
    write_samples(folder / "suspects", folder / "a.safetensors", [1, 2])
    return folder


def test_a_search_begins_there(world: Path) -> None:
    G, encoder = load_generator(world / "a.safetensors"), load_encoder(world / "a.encoder.safetensors").encoder
    targets = G.synthesis(G.mapping(torch.randn(4, G.z_dim))).clamp(-1, 1)
    config = ProjectionConfig(steps=1)  # its learning rate is 0
    found = project(G, targets, config=config, lpips=LPIPS("vgg"), seeds=[0, 1, 2, 3], encoder=encoder)
    torch.testing.assert_close(torch.stack([p.w for p in found]), encoder(targets))
    plain = project(G, targets, config=config, lpips=LPIPS("vgg"), seeds=[0, 1, 2, 3])
    assert [p.lpips_start for p in found] == [p.lpips_start for p in plain]  # at mu_w, whatever the beginning
    assert all(p.lpips != q.lpips for p, q in zip(found, plain, strict=True))


def test_a_calibration_knows_its_encoders(world: Path, tmp_path: Path, run: Run) -> None:
    candidates = [o for name in "ab" for o in ("--candidate", f"{name}={world / name}.safetensors")]
    encoders = [o for name in "ab" for o in ("--encoder", f"{name}={world / name}.encoder.safetensors")]
    calibration = tmp_path / "cal.json"
    code, _, err = run(
        *("calibrate", *candidates, *encoders, "--real", world / "reals", *QUICK, "--out", calibration),
    )
    assert code == 0, err
    known = json.loads(calibration.read_text())["projection"]["encoders"]
    assert known == [file_sha256(world / f"{name}.encoder.safetensors") for name in "ab"]

    examine = ["attribute", world / "suspects", "--calibration", calibration, "--batch-size", 4]
    code, _, err = run(*examine, *candidates, "--out", tmp_path / "without")
    assert code == 2
    assert "encoders: found none, but the calibration was made with" in err
    swapped = [candidates[i] for i in (2, 3, 0, 1)]
    code, _, err = run(*examine, *swapped, *encoders, "--out", tmp_path / "case")
    assert code == 0, err
    report = json.loads((tmp_path / "case" / "report.json").read_text())
    assert report["run"]["settings"]["encoders"] == dict(zip("ab", known, strict=True))
    assert report["run"]["controls_hold"] is True
    assert len(report["images"]) == 2


def test_a_method_has_its_steps_and_those_that_were_asked_for() -> None:
    assert method_config("default", None, encoded=False) == ProjectionConfig(steps=100)
    assert method_config("default", None, encoded=True).steps == 30
    assert method_config("paper", None, encoded=False) == ProjectionConfig(steps=1000)
    assert method_config("default", 7, encoded=True).steps == method_config("paper", 7, encoded=False).steps == 7
    with pytest.raises(ValueError, match="steps: found 0"):
        method_config("default", 0, encoded=True)


def test_searches_that_begin_at_an_encoders_w_take_smaller_steps_and_no_noise_on_w() -> None:
    encoded, plain = (method_config("default", 7, encoded=e, precision="bf16", noise_weight=3) for e in (True, False))
    assert encoded.max_lr < plain.max_lr
    assert encoded.w_noise == 0 < plain.w_noise
    assert (encoded.precision, encoded.noise_weight) == (plain.precision, plain.noise_weight) == ("bf16", 3)


@pytest.mark.parametrize(
    ("encoder", "words"),
    [
        ("a=b.encoder", "b.encoder.safetensors: found an encoder of the generator"),
        ("c=a.encoder", "--encoder: found one for c, expected the name of a candidate"),
        ("a=a", "a.safetensors: found format 'latentprint.generator/1', expected 'latentprint.encoder/1'"),
    ],
)
def test_another_encoder_is_refused(world: Path, tmp_path: Path, run: Run, encoder: str, words: str) -> None:
    name, _, file = encoder.partition("=")
    code, _, err = run(
        *("attribute", world / "suspects", "--candidate", f"a={world / 'a'}.safetensors", "--steps", 1),
        *("--encoder", f"{name}={world / file}.safetensors", "--out", tmp_path / "case"),
    )
    assert code == 2
    assert words in err
    assert not (tmp_path / "case").exists()


def test_project_takes_one(world: Path, tmp_path: Path, run: Run) -> None:
    image = world / "suspects" / "a-1.png"
    arguments = ["project", image, "--generator", world / "a.safetensors", "--steps", 1, "--device", "cpu"]
    assert run(*arguments, "--encoder", world / "a.encoder.safetensors", "--out", tmp_path / "one")[0] == 0
    assert run(*arguments, "--out", tmp_path / "two")[0] == 0
    one, two = (next((tmp_path / name / "projections").iterdir()) for name in ("one", "two"))
    assert not torch.equal(load_file(one)["w"], load_file(two)["w"])
