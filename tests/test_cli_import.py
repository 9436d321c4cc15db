"""`latentprint import` and `export` through the entry point, and foreign checkpoints in place of generator files."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from generator.files import discriminator_beside, file_sha256, read_provenance
from generator.importers.exporting import export_checkpoint
from generator.loading import load_generator
from generator.networks import build_discriminator
from tests.cases import TINY, tiny_generator, write_samples
from tests.checkpoint_writers.networks import write_checkpoint
from tests.test_cli_train import assert_refused


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generator file, the same network as two foreign checkpoints, one with its discriminator, and a suspect."""
    folder = tmp_path_factory.mktemp("world")
    ours = tiny_generator(folder / "ours.safetensors", 0)
    D = build_discriminator(TINY)
    export_checkpoint(load_generator(ours), folder / "rosinality.pt", "rosinality", D)
    export_checkpoint(load_generator(ours), folder / "ada.pt", "ada-pytorch-state")
    write_samples(folder / "suspects", ours, [1])
    return folder


@pytest.mark.parametrize("name", ["rosinality", "ada"])
def test_an_imported_generator_makes_the_originals_images(run, world, tmp_path, name):
    code, out, _ = run("import", world / f"{name}.pt", "--out", tmp_path / "g.safetensors")
    made = tmp_path / "g.safetensors"
    assert code == 0 and f"{file_sha256(made)}  {made}" in out.splitlines()
    z = torch.randn(2, TINY.z_dim)
    assert torch.equal(load_generator(tmp_path / "g.safetensors")(z), load_generator(world / "ours.safetensors")(z))
    provenance = read_provenance(tmp_path / "g.safetensors")
    assert provenance["original_sha256"] == file_sha256(world / f"{name}.pt")
    assert discriminator_beside(tmp_path / "g.safetensors").exists() == (name == "rosinality")


def test_the_version_is_printed(run):
    code, out, _ = run("--version")
    assert code == 0 and out.split()[0] == "latentprint" and len(out.split()) == 2


def test_a_log_shows_the_progress(run, world, tmp_path):
    """Where stderr is no terminal there is no bar that moves."""
    attribute = ("attribute", world / "suspects", "--candidate", f"a={world / 'ours.safetensors'}", "--steps", 20)
    code, _, err = run(*attribute, "--batch-size", 1, "--out", tmp_path / "case")
    assert code == 0
    lines = [line for line in err.splitlines() if line.startswith("projecting: ")]
    assert lines == ["projecting: 20 image-steps", *(f"projecting: {10 * n} %" for n in range(1, 11))]


def test_export_and_import_give_the_same_file(run, world, tmp_path):
    for to in ("rosinality", "ada-pytorch-state"):
        assert run("export", world / "ours.safetensors", "--to", to, "--out", tmp_path / "f.pt")[0] == 0
        assert run("generate", "--generator", tmp_path / "f.pt", "--seeds", "3", "--out", tmp_path / to)[0] == 0
    run("generate", "--generator", world / "ours.safetensors", "--seeds", "3", "--out", tmp_path / "ours")
    pictures = [
        (tmp_path / name / "seed000003.png").read_bytes() for name in ("rosinality", "ada-pytorch-state", "ours")
    ]
    assert pictures[0] == pictures[1] == pictures[2]


def test_inspection_prints_all_and_writes_nothing(run, world, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = run("import", world / "rosinality.pt", "--inspect")
    assert code == 0 and list(tmp_path.iterdir()) == []
    for text in (file_sha256(world / "rosinality.pt"), "format: rosinality", "resolution: 16", "torch.FloatStorage"):
        assert text in out
    code, out, _ = run("import", world / "rosinality.pt", "--inspect", "--json")
    found = json.loads(out)
    assert found["config"]["channel_max"] == TINY.channel_max and found["problem"] is None
    assert ["g_ema.conv1.conv.weight", "float32", [1, 8, 8, 3, 3]] in [list(t.values()) for t in found["tensors"]]


def test_nothing_in_a_usual_snapshot_is_called_suspicious(run, tmp_path):
    G, D = load_generator(tiny_generator(tmp_path / "g.safetensors", 0)), build_discriminator(TINY)
    path = write_checkpoint(tmp_path / "network-snapshot.pkl", "stylegan2-ada-pytorch", G, G, D)
    code, out, _ = run("import", path, "--inspect")
    assert code == 0 and "builtins.set" in out and "SUSPICIOUS" not in out and "unknown" not in out


def test_a_suspicious_file_is_described_and_refused(run, tmp_path):
    canary = tmp_path / "canary"
    (tmp_path / "bad.pkl").write_bytes(b"cos\nsystem\n(S'touch " + str(canary).encode() + b"'\ntR.")
    code, out, _ = run("import", tmp_path / "bad.pkl", "--inspect")
    assert code == 0 and "os.system x 1: SUSPICIOUS" in out
    refused = run("import", tmp_path / "bad.pkl", "--out", tmp_path / "g.safetensors")
    assert_refused(refused, str(tmp_path / "bad.pkl"), "expected a StyleGAN2 checkpoint")
    assert not canary.exists() and not (tmp_path / "g.safetensors").exists()


def test_commands_take_foreign_checkpoints_directly(run, world, tmp_path):
    checkpoint = world / "rosinality.pt"
    project = ("project", world / "suspects" / "ours-1.png", "--generator", checkpoint, "--out", tmp_path / "one")
    assert run(*project, "--steps", 2)[0] == 0
    with Image.open(next((tmp_path / "one" / "images").glob("*resynthesis.png"))) as picture:
        assert picture.size == (16, 16)
    attribute = ("attribute", world / "suspects", "--candidate", f"a={checkpoint}", "--out", tmp_path / "case")
    code, _, err = run(*attribute, "--steps", 2, "--batch-size", 1)
    assert code == 0, err
    candidate = json.loads((tmp_path / "case" / "report.json").read_text())["candidates"][0]
    assert candidate["sha256"] == file_sha256(checkpoint)
    assert candidate["provenance"]["imported_format"] == "rosinality"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("import", "{world}/rosinality.pt"), ("--out", "nothing", ".safetensors")),
        (("import", "{world}/rosinality.pt", "--out", "{tmp}/g.pt"), ("--out", "g.pt", ".safetensors")),
        (("import", "{world}/none.pkl", "--out", "{tmp}/g.safetensors"), ("none.pkl", "no such file")),
        (("import", "{world}", "--inspect"), ("world", "directory")),
        (("import", "{world}/ada.pt", "--out", "{tmp}/g.safetensors", "--which", "raw"), ("ada.pt", "no G,", "raw")),
        (("import", "{world}/ada.pt", "--which", "best", "--inspect"), ("--which", "best")),
        (("import", "{world}/ada.pt", "--out", "{tmp}/g.safetensors", "--channel-order", "bgr"), ("--channel-order",)),
        (("export", "{world}/ours.safetensors", "--to", "tensorflow", "--out", "{tmp}/f.pt"), ("--to", "tensorflow")),
        (("generate", "--generator", "{world}/suspects/ours-1.png", "--out", "{tmp}"), ("ours-1.png",)),
    ],
)
def test_wrong_usage_is_one_sentence(run, world, tmp_path, arguments, named):
    assert_refused(run(*(a.format(world=world, tmp=tmp_path) for a in arguments)), *named)
    assert not list(tmp_path.iterdir())
