"""Foreign checkpoints against what their original implementations computed, and through files of our own writing.

The golden files hold small networks' tensors, inputs and outputs. tests/checkpoint_writers wraps them as the foreign
programs do.
"""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from generator.discriminator import Discriminator
from generator.files import file_sha256
from generator.importers import import_checkpoint
from generator.importers.exporting import export_checkpoint
from generator.networks import CONFIG_E, CONFIG_F, Generator, GeneratorConfig, build_discriminator
from tests.checkpoint_writers import ada_pytorch, layouts, tensorflow, torch_files
from tests.checkpoint_writers.networks import (
    FORMATS,
    TINY,
    ada_discriminator_options,
    ada_options,
    foreign_tensors,
    varied_discriminator,
    varied_generator,
    write_checkpoint,
    write_tensors,
)

DATA = Path(__file__).parent / "data"
ADA = ["golden-ada-16", "golden-ada-cond-32"]


def golden(name: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """(tensors, metadata); a tensor's name begins with its network's, with in. or with out."""
    with safe_open(DATA / f"{name}.safetensors", "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118


def under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def same_networks(found: torch.nn.Module | None, expected: torch.nn.Module) -> None:
    assert found is not None
    state = found.state_dict()
    assert state.keys() == expected.state_dict().keys()
    for name, tensor in expected.state_dict().items():
        assert state[name].shape == tensor.shape and (state[name] - tensor).abs().max() < 1e-6, name


# ---------------------------------------------------------------- golden outputs


def write_golden_ada(path: Path, name: str, clamp: bool = True, noise: bool = True) -> Path:
    tensors, metadata = golden(name)
    options = json.loads(metadata["init_kwargs"])
    if not clamp:
        del options["synthesis_kwargs"]["conv_clamp"]
    G = {k: t if noise or "noise_strength" not in k else t * 0 for k, t in under("G.", tensors).items()}
    (group,) = re.findall(r"mbstd_group_size (\d+)", metadata["note"])
    for_both = {k: options[k] for k in ("c_dim", "img_resolution", "img_channels")}
    D_options = for_both | {"epilogue_kwargs": {"mbstd_group_size": int(group)}}
    D = ada_pytorch.discriminator(under("D.", tensors), D_options)
    path.write_bytes(ada_pytorch.snapshot(ada_pytorch.generator(G, options), D=D))
    return path


@pytest.mark.parametrize("name", ADA)
def test_golden_ada_networks(tmp_path, name):
    expected, _ = golden(name)
    imported = import_checkpoint(write_golden_ada(tmp_path / "network-snapshot.pkl", name))
    assert imported.format == "stylegan2-ada-pytorch"
    G, z, c, w = imported.generator, expected["in.z"], expected.get("in.c"), expected["out.w"]
    close(G.mapping(z, c), w)
    close(G.mapping(z, c, truncation_psi=0.6, truncation_cutoff=3), expected["out.w_psi0.6_cutoff3"])
    close(G.synthesis(w, noise="const"), expected["out.image_const_noise"])
    close(G.synthesis(w, noise="none"), expected["out.image_no_noise"])
    assert imported.discriminator is not None
    close(imported.discriminator(expected["out.image_const_noise"], c), expected["out.logits"])


@pytest.mark.parametrize(
    ("name", "left_out"), [(ADA[0], {"clamp": False}), (ADA[0], {"noise": False}), (ADA[1], {"noise": False})]
)
def test_golden_ada_images_need_the_files_clamp_and_noise_strengths(tmp_path, name, left_out):
    expected, _ = golden(name)
    G = import_checkpoint(write_golden_ada(tmp_path / "network-snapshot.pkl", name, **left_out)).generator
    assert (G.synthesis(expected["out.w"]) - expected["out.image_const_noise"]).abs().max() > 0.01


@pytest.mark.parametrize(
    ("protocol", "python2"), [(2, False), (2, True), (3, False), (4, False)], ids=["2", "python 2", "3", "4"]
)
def test_golden_tensorflow_network(tmp_path, protocol, python2):
    expected, metadata = golden("golden-tensorflow-16")
    variables = {k: t.numpy() for k, t in expected.items() if not k.startswith(("in.", "out."))}
    kwargs = json.loads(metadata["static_kwargs"])
    D = layouts.tensorflow_discriminator(varied_discriminator())
    networks = [tensorflow.network(variables, kwargs), tensorflow.network(D, kwargs, "D_stylegan2")]
    path = tmp_path / "stylegan2-faces.pkl"
    path.write_bytes(tensorflow.snapshot(networks[0], networks[1], networks[0], protocol, python2))
    imported = import_checkpoint(path)
    assert imported.format == "stylegan2-tensorflow"
    assert imported.generator.config.channel_base == 2 * kwargs["fmap_base"]
    close(imported.generator.mapping(expected["in.z"]), expected["out.w"])
    close(imported.generator.synthesis(expected["out.w"]), expected["out.image_const_noise"])
    close(imported.generator.mapping.w_avg, expected["dlatent_avg"])


def test_golden_genforce_network(tmp_path):
    expected, _ = golden("golden-genforce-16")
    G = under("generator_smooth.", expected)
    path = torch_files.write(tmp_path / "stylegan2.pth", {"generator_smooth": torch_files.state_dict(G)})
    imported = import_checkpoint(path)
    assert (imported.format, imported.discriminator) == ("genforce", None)
    close(imported.generator.mapping.map(expected["in.z"]), expected["out.w"])
    close(imported.generator.synthesis(expected["out.w"]), expected["out.image_const_noise"])
    close(imported.generator.mapping.w_avg, expected["generator_smooth.truncation.w_avg"])


@pytest.fixture
def hollow(monkeypatch) -> Callable[[GeneratorConfig], tuple[Generator, Discriminator]]:
    """Builds networks whose large tensors are zeros that share their memory."""

    def build(config: GeneratorConfig) -> tuple[Generator, Discriminator]:
        with monkeypatch.context() as patched:
            patched.setattr(torch, "randn", lambda *shape: torch.zeros(()).expand(*shape))
            return Generator(config), build_discriminator(config)

    return build


def rosinality_by_the_rule(G: Generator) -> tuple[dict[str, Tensor], np.random.Generator]:
    """The tensors that golden-rosinality-64 describes in its metadata, in the shapes of this network."""
    rng = np.random.default_rng(7)
    tensors = dict(sorted(layouts.rosinality_generator(G).items()))
    for name, tensor in tensors.items():
        if name.endswith("kernel"):
            continue
        x = rng.standard_normal(tuple(tensor.shape)).astype(np.float32)
        if name.endswith("modulation.bias"):
            x = 1 + 0.1 * x
        elif name.endswith((".bias", "noise.weight")):
            x = 0.1 * x
        elif re.fullmatch(r"style\..*\.weight", name):
            x = 100 * x
        tensors[name] = torch.from_numpy(np.asarray(x, np.float32))
    return tensors, rng


@pytest.mark.slow
def test_golden_rosinality_network(tmp_path, hollow):
    """95 MB: the feature maps are the original's, 512 at every resolution up to 64x64."""
    expected, _ = golden("golden-rosinality-64")
    config = GeneratorConfig(resolution=64, z_dim=32, w_dim=32, mapping_layers=3)
    tensors, rng = rosinality_by_the_rule(hollow(config)[0])
    np.testing.assert_allclose(rng.standard_normal((2, 32)), expected["in.z"], rtol=1e-6)
    content = torch_files.rosinality_converted(tensors, torch.ones(32))
    imported = import_checkpoint(torch_files.write(tmp_path / "550000.pt", content))
    assert imported.generator.config == config
    close(imported.generator.mapping.map(expected["in.z"]), expected["out.w"])
    # the first of two: the other takes a second more
    close(imported.generator.synthesis(expected["out.w"][:1]), expected["out.image_const_noise"][:1])


# ---------------------------------------------------------------- every format, there and back


CONFIGS = {
    "as E": replace(TINY, channel_base=128, channel_max=16),
    "as F, eight layers of mapping": replace(TINY, channel_base=256, channel_max=16, mapping_layers=8),
    "32x32, no maximum of feature maps": replace(TINY, resolution=32, channel_max=512, mapping_layers=1),
    "8x8, all feature maps at their maximum": replace(TINY, resolution=8, channel_base=32768, channel_max=7),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("file_format", FORMATS)
def test_networks_come_back_from_every_format(tmp_path, file_format, config):
    ema, raw, D = varied_generator(config), varied_generator(config, seed=1), varied_discriminator(config)
    path = write_checkpoint(tmp_path / "checkpoint", file_format, ema, raw, D)
    for which, expected in (("ema", ema), ("raw", raw)):
        imported = import_checkpoint(path, which=which)
        assert imported.format == file_format
        found = imported.generator
        assert not found.training and not any(p.requires_grad for p in found.parameters())
        assert (found.config.channels, found.config.mapping_layers) == (config.channels, config.mapping_layers)
        if file_format in ("rosinality", "mmgeneration"):  # these store no mean of w
            expected.mapping.w_avg.copy_(found.mapping.w_avg)
        same_networks(found, expected)
        z = torch.randn(2, config.z_dim, generator=seeded())
        close(found(z), expected(z))
        same_networks(imported.discriminator, D)
        images = torch.randn(4, 3, config.resolution, config.resolution, generator=seeded())
        assert imported.discriminator is not None
        close(imported.discriminator(images), D(images))


@pytest.mark.parametrize("file_format", FORMATS)
def test_settings_are_the_files(tmp_path, file_format):
    """Where the file doesn't store them, the shapes leave open how high the bounds on the feature maps are."""
    path = write_checkpoint(tmp_path / "checkpoint", file_format, varied_generator())
    config = import_checkpoint(path).generator.config
    assert config == replace(TINY, channel_base=config.channel_base, channel_max=config.channel_max)
    assert config.channels == TINY.channels
    if file_format in ("stylegan2-tensorflow", "stylegan2-ada-pytorch"):
        assert config == TINY


@pytest.mark.parametrize("file_format", ["stylegan2-tensorflow", "stylegan2-ada-pytorch", "genforce"])
def test_z_and_w_may_differ_in_size(tmp_path, file_format):
    G = varied_generator(replace(TINY, z_dim=4, w_dim=9))
    found = import_checkpoint(write_checkpoint(tmp_path / "checkpoint", file_format, G)).generator
    same_networks(found, G)


@pytest.mark.parametrize(
    "file_format", ["stylegan2-ada-pytorch", "stylegan2-ada-pytorch-state", "stylegan2-tensorflow"]
)
def test_conditional_networks(tmp_path, file_format):
    """The discriminator's label mapping keeps its eight layers where the generator's has two."""
    config = replace(TINY, c_dim=3)
    G, D = varied_generator(config), varied_discriminator(replace(config, mapping_layers=8))
    imported = import_checkpoint(write_checkpoint(tmp_path / "checkpoint", file_format, G, D=D))
    same_networks(imported.generator, G)
    same_networks(imported.discriminator, D)
    c, images = torch.eye(3), torch.randn(3, 3, 16, 16, generator=seeded())
    assert imported.discriminator is not None
    close(imported.discriminator(images, c), D(images, c))


@pytest.mark.parametrize("clamp", [None, 0.5, 256])
def test_the_clamp_of_generator_and_discriminator_is_kept(tmp_path, clamp):
    config = replace(TINY, clamp=clamp)
    G, D = varied_generator(config), varied_discriminator(config)
    imported = import_checkpoint(write_checkpoint(tmp_path / "a.pkl", "stylegan2-ada-pytorch", G, D=D))
    assert imported.generator.config.clamp == clamp
    assert imported.discriminator is not None and imported.discriminator.clamp == clamp
    images = 20 * torch.randn(4, 3, 16, 16, generator=seeded())
    close(imported.discriminator(images), D(images))


@pytest.mark.parametrize("file_format", ["stylegan2-tensorflow", "stylegan2-ada-pytorch"])
@pytest.mark.parametrize("group_size", [2, 3])
def test_the_group_size_of_the_minibatch_deviation_is_kept(tmp_path, file_format, group_size):
    D = varied_discriminator(mbstd_group_size=group_size)
    imported = import_checkpoint(write_checkpoint(tmp_path / "checkpoint", file_format, varied_generator(), D=D))
    assert imported.discriminator is not None and imported.discriminator.mbstd_group_size == group_size


def test_a_minibatch_deviation_without_group_size_takes_the_whole_batch(tmp_path):
    G, D = varied_generator(), varied_discriminator(mbstd_group_size=6)
    options = ada_discriminator_options(TINY) | {"epilogue_kwargs": {"mbstd_group_size": None}}
    networks = [ada_pytorch.generator(layouts.ada_generator(G), ada_options(TINY))]
    networks += [ada_pytorch.discriminator(layouts.ada_discriminator(D), options)]
    path = tmp_path / "network-snapshot.pkl"
    path.write_bytes(ada_pytorch.snapshot(networks[0], D=networks[1]))
    images = torch.randn(6, 3, 16, 16, generator=seeded())
    found = import_checkpoint(path).discriminator
    assert found is not None
    close(found(images), D(images))


# ---------------------------------------------------------------- the mean of w


@pytest.mark.parametrize("stored", [True, False])
def test_rosinalitys_mean_of_w_is_the_files_or_computed_from_seed_0(tmp_path, stored):
    G = varied_generator()
    tensors = layouts.rosinality_generator(G)
    content = torch_files.rosinality_converted(tensors, G.mapping.w_avg) if stored else {"g_ema": tensors}
    imported = import_checkpoint(torch_files.write(tmp_path / "g.pt", content))
    notes = " ".join(imported.provenance["imported_notes"])
    if stored:
        close(imported.generator.mapping.w_avg, G.mapping.w_avg)
        assert "10000" not in notes.replace(",", "")
    else:
        z = torch.randn(10_000, TINY.z_dim, generator=seeded(0))
        close(imported.generator.mapping.w_avg, G.mapping.map(z).mean(dim=0))
        assert "10000" in notes.replace(",", "") and "seed 0" in notes


def test_mmgenerations_mean_of_w_is_computed(tmp_path):
    G = varied_generator()
    imported = import_checkpoint(write_checkpoint(tmp_path / "g.pth", "mmgeneration", G))
    z = torch.randn(10_000, TINY.z_dim, generator=seeded(0))
    close(imported.generator.mapping.w_avg, G.mapping.map(z).mean(dim=0))
    assert "seed 0" in " ".join(imported.provenance["imported_notes"])


# ---------------------------------------------------------------- provenance, channel order, parameter counts


@pytest.mark.parametrize(("file_format", "which"), list(zip(FORMATS, ["ema", "raw"] * 3, strict=True)))
def test_provenance_says_what_was_imported(tmp_path, file_format, which):
    path = write_checkpoint(tmp_path / "checkpoint", file_format, varied_generator())
    provenance = import_checkpoint(path, which=which).provenance
    assert provenance["original_sha256"] == file_sha256(path)
    assert (provenance["imported_format"], provenance["imported_which"]) == (file_format, which)
    json.dumps(provenance, allow_nan=False)
    assert isinstance(provenance["imported_settings"], dict)
    assert all(isinstance(note, str) and note for note in provenance["imported_notes"])


def test_bgr_networks_come_out_in_rgb(tmp_path):
    """MMGeneration's own training emits blue first; both networks of such a file take the reversed order."""
    G, D = varied_generator(), varied_discriminator()
    path = write_checkpoint(tmp_path / "g.pth", "mmgeneration", G, D=D)
    as_stored, reversed_ = import_checkpoint(path), import_checkpoint(path, channel_order="bgr")
    z, images = torch.randn(2, TINY.z_dim, generator=seeded()), torch.randn(4, 3, 16, 16, generator=seeded())
    close(as_stored.generator(z), G(z))
    close(reversed_.generator(z), G(z).flip(1))
    assert reversed_.discriminator is not None
    close(reversed_.discriminator(images), D(images.flip(1)))


@pytest.mark.slow
@pytest.mark.parametrize(("config", "counts"), [(CONFIG_E, (25, 24)), (CONFIG_F, (30, 29))], ids=["E", "F"])
def test_parameter_counts_of_the_published_configurations(tmp_path, hollow, config, counts):
    """1024x1024, in half precision: 25 M and 24 M, 30 M and 29 M parameters (StyleGAN2, section 4.2)."""
    G, D = hollow(config)
    named = {"g_ema": layouts.rosinality_generator(G), "d": layouts.rosinality_discriminator(D)}
    halves = {network: {k: t.half().contiguous() for k, t in tensors.items()} for network, tensors in named.items()}
    content = halves | {"latent_avg": torch.zeros(512)}
    imported = import_checkpoint(torch_files.write(tmp_path / "stylegan2.pt", content))
    assert imported.generator.config == config and imported.discriminator is not None
    networks = imported.generator, imported.discriminator
    assert tuple(round(sum(p.numel() for p in n.parameters()) / 1e6) for n in networks) == counts


@pytest.mark.parametrize(
    ("to", "generator", "discriminator", "names"),
    [
        ("rosinality", layouts.rosinality_generator, layouts.rosinality_discriminator, ("g_ema", "d")),
        ("ada-pytorch-state", layouts.ada_generator, layouts.ada_discriminator, ("G_ema", "D")),
    ],
    ids=["rosinality", "ada-pytorch-state"],
)
def test_exported_files_hold_the_tensors_of_the_published_layout(tmp_path, to, generator, discriminator, names):
    G, D = varied_generator(), varied_discriminator()
    export_checkpoint(G, tmp_path / "exported.pt", to, D)
    found = torch.load(tmp_path / "exported.pt", weights_only=True)
    for name, expected in zip(names, (generator(G), discriminator(D)), strict=True):
        assert found[name].keys() == expected.keys()
        for key, tensor in expected.items():
            torch.testing.assert_close(found[name][key], tensor, rtol=0, atol=0)
    same_networks(import_checkpoint(tmp_path / "exported.pt").generator, G)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_tensors_of_other_floating_types_become_float32(tmp_path, dtype):
    tensors = foreign_tensors("rosinality", varied_generator(), varied_generator(), varied_discriminator())
    stored = {network: {k: t.to(dtype) for k, t in named.items()} for network, named in tensors.items()}
    found = import_checkpoint(write_tensors(tmp_path / "g.pt", "rosinality", stored, TINY, 4)).generator
    assert {t.dtype for t in found.state_dict().values()} == {torch.float32}
    assert torch.equal(found.synthesis.const, tensors["ema"]["input.input"][0].to(dtype).float())
