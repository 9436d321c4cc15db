"""The projection encoder learns its generator's w, resumes exactly, and its file is read strictly."""

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import cli
from generator import load_generator
from generator.encoder import ENCODER_FORMAT, Encoder, EncoderConfig, load_encoder, save_encoder
from generator.files import file_sha256
from tests.cases import tiny_generator
from training import encoder as encoder_training
from training.encoder import EncoderProgress, EncoderTraining, train_encoder

SETTINGS = EncoderTraining(kimg=0.256, batch=16, lr=0.01)


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("world") / "g.safetensors"
    tiny_generator(path, 0)
    return path


@pytest.fixture(scope="module")
def encoder(generator: Path) -> Path:
    path = generator.with_name("e.safetensors")
    train_encoder(generator, path, SETTINGS)
    return path


def test_it_learns_what_the_mean_of_w_does_not_know(generator: Path, tmp_path: Path) -> None:
    error = train_encoder(generator, tmp_path / "e.safetensors", EncoderTraining(kimg=6.4, batch=32, lr=0.005))
    assert error < 0.7
    encoder = load_encoder(tmp_path / "e.safetensors").encoder
    G = load_generator(generator)
    w = G.mapping.map(torch.randn(64, G.z_dim, generator=torch.Generator().manual_seed(77)), None)
    found = encoder(G.synthesis(w).clamp(-1, 1))
    spread = (w - w.mean(0)).square().mean(0)
    assert ((found - w).square().mean(0) / spread).mean() < 0.75  # independent of what the training measures


def test_a_killed_training_goes_on_to_the_same_bits(
    generator: Path, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoder_training, "CHECKPOINT_SECONDS", 0)
    out = tmp_path / "e.safetensors"

    def kill(progress: EncoderProgress) -> None:
        if progress.images == 7 * SETTINGS.batch:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_encoder(generator, out, SETTINGS, on_progress=kill)
    assert not out.exists()
    seen: list[int] = []
    train_encoder(generator, out, SETTINGS, on_progress=lambda progress: seen.append(progress.images))
    assert seen[0] == 7 * SETTINGS.batch  # the sixth step's checkpoint was the last
    assert out.read_bytes() == encoder.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


@pytest.mark.parametrize("change", ["settings", "bytes", "format"])
def test_another_checkpoint_is_refused(
    generator: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    out, checkpoint = tmp_path / "e.safetensors", tmp_path / "e.safetensors.checkpoint.pt"
    run = encoder_training._Training(encoder_training.open_generator(generator), SETTINGS, "cpu")
    run.save(checkpoint)
    settings = SETTINGS
    if change == "settings":
        settings = EncoderTraining(kimg=0.256, batch=16, lr=0.02)
    elif change == "bytes":
        checkpoint.write_bytes(checkpoint.read_bytes()[:100])
    else:
        torch.save({"format": "something/1"}, checkpoint)
    with pytest.raises(ValueError, match=r"e\.safetensors\.checkpoint\.pt: found "):
        train_encoder(generator, out, settings)
    assert not out.exists()


def test_the_file_names_its_generator(generator: Path, encoder: Path) -> None:
    found = load_encoder(encoder)
    assert found.generator_sha256 == file_sha256(generator)
    assert found.provenance["training"]["kimg"] == SETTINGS.kimg
    assert 0 < found.provenance["held_out_error"] < 2
    assert not any(parameter.requires_grad for parameter in found.encoder.parameters())


def test_round_trip_is_bit_identical(tmp_path: Path) -> None:
    encoder = Encoder(EncoderConfig(w_dim=5, resolution=16, channel_base=64, channel_max=8))
    encoder.w_mean.normal_()
    save_encoder(encoder, tmp_path / "e.safetensors", "0" * 64, {})
    again = load_encoder(tmp_path / "e.safetensors").encoder
    images = torch.rand(2, 3, 32, 32) * 2 - 1  # a larger image is averaged down
    assert torch.equal(again(images), encoder(images))


@pytest.mark.parametrize(
    ("metadata", "tensors", "words"),
    [
        ({"format": "latentprint.generator/1"}, {}, "found format 'latentprint.generator/1'"),
        ({"config": "{"}, {}, "settings that no encoder has"),
        ({"config": '{"w_dim": 0}'}, {}, "w_dim: found 0"),
        ({"config": '{"w_dim": 4, "resolution": 48}'}, {}, "resolution: found 48"),
        ({"config": '{"w_dim": 4, "depth": 3}'}, {}, "settings that no encoder has"),
        ({}, {"out.bias": torch.zeros(3)}, "tensor out.bias has shape"),
        ({}, {"more": torch.zeros(3)}, "unexpected tensor more"),
        ({}, {"w_mean": None}, "tensor w_mean is missing"),
        ({}, {"w_mean": torch.full([8], float("nan"))}, "not finite"),
    ],
)
def test_another_file_is_refused_by_name(
    encoder: Path, tmp_path: Path, metadata: dict, tensors: dict, words: str
) -> None:
    found = load_encoder(encoder)
    usual = {"format": ENCODER_FORMAT, "generator_sha256": "0" * 64, "provenance": "{}"}
    usual["config"] = json.dumps(vars(found.encoder.config))
    changed = {name: t for name, t in (load_file(encoder) | tensors).items() if t is not None}
    save_file(changed, tmp_path / "bad.safetensors", usual | metadata)
    with pytest.raises(ValueError, match=r"bad\.safetensors: ") as error:
        load_encoder(tmp_path / "bad.safetensors")
    assert words in str(error.value)


def test_what_is_no_safetensors_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.safetensors").write_text("no")
    for name in ("text.safetensors", "missing.safetensors"):
        with pytest.raises(ValueError, match=f"{name}: found no readable safetensors file .* expected an encoder file"):
            load_encoder(tmp_path / name)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--kimg", "0.064"], 0, "mean square error of w on new samples"),
        (["--kimg", "0"], 2, "kimg: found 0"),
        (["--precision", "fp8"], 2, "precision: found 'fp8'"),
        (["--out", "e.pt"], 2, "--out: found e.pt"),
        (["--out", "nowhere/e.safetensors"], 2, "--out: found nowhere/e.safetensors"),
    ],
)
def test_command(
    generator: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    words: str,
) -> None:
    fixed = ["latentprint", "train-encoder", "--generator", str(generator), "--out", str(tmp_path / "e.safetensors")]
    monkeypatch.setattr(sys, "argv", [*fixed, "--device", "cpu", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    out, err = capsys.readouterr()
    assert (stop.value.code or 0) == code, err
    assert words in (out if code == 0 else err)
    assert (tmp_path / "e.safetensors").exists() == (code == 0)
