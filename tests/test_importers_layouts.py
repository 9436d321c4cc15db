"""What the importers refuse, and how they say it: tensors that don't fit, other architectures, files of other kinds."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from generator.files import save_generator
from generator.importers import import_checkpoint, inspect_checkpoint
from generator.networks import GeneratorConfig
from tests.checkpoint_writers import ada_pytorch, layouts, tensorflow, torch_files
from tests.checkpoint_writers.networks import (
    FORMATS,
    TINY,
    ada_discriminator_options,
    ada_options,
    foreign_tensors,
    tensorflow_kwargs,
    varied_discriminator,
    varied_generator,
    write_checkpoint,
    write_tensors,
)
from tests.checkpoint_writers.pickles import Called, Name, dumps, instance


def refusal(path: Path, **options: Any) -> str:
    """The sentence that a file is refused with, without the path that it begins with."""
    with pytest.raises(ValueError) as raised:
        import_checkpoint(path, **options)
    text = str(raised.value)
    assert text.startswith(f"{path}: ") and "\n" not in text
    sentence = text.removeprefix(f"{path}: ")
    assert 10 < len(sentence) < 500
    return sentence


def tiny_tensors(file_format: str) -> dict[str, dict[str, Any]]:
    return foreign_tensors(file_format, varied_generator(), varied_generator(seed=1), varied_discriminator())


def written(path: Path, file_format: str, tensors: dict[str, dict[str, Any]]) -> Path:
    return write_tensors(path, file_format, tensors, TINY, 4)


# ---------------------------------------------------------------- tensors that don't fit

BIASES = {  # of the second convolution at 8x8
    "stylegan2-tensorflow": "synthesis/8x8/Conv1/bias",
    "stylegan2-ada-pytorch": "synthesis.b8.conv1.bias",
    "stylegan2-ada-pytorch-state": "synthesis.b8.conv1.bias",
    "rosinality": "convs.1.activate.bias",
    "genforce": "synthesis.layer2.bias",
    "mmgeneration": "convs.1.activate.bias",
}


def longer(value: Any) -> Any:
    """One number more."""
    return torch.zeros(len(value) + 1) if isinstance(value, torch.Tensor) else np.zeros(len(value) + 1, np.float32)


def not_a_number(value: Any) -> Any:
    return value * float("nan")


@pytest.mark.parametrize(("file_format", "name"), BIASES.items())
def test_a_missing_tensor_is_named(tmp_path, file_format, name):
    tensors = tiny_tensors(file_format)
    del tensors["ema"][name]
    sentence = refusal(written(tmp_path / "checkpoint", file_format, tensors))
    assert name in sentence and "missing" in sentence


@pytest.mark.parametrize(("file_format", "name"), BIASES.items())
def test_an_unexpected_tensor_is_named(tmp_path, file_format, name):
    tensors = tiny_tensors(file_format)
    name = name.replace("bias", "gate")
    tensors["ema"][name] = tensors["ema"][BIASES[file_format]].copy() if "/" in name else torch.zeros(3)
    sentence = refusal(written(tmp_path / "checkpoint", file_format, tensors))
    assert name in sentence and "unexpected" in sentence


@pytest.mark.parametrize("change", [longer, not_a_number])
@pytest.mark.parametrize(("file_format", "name"), BIASES.items())
def test_a_tensor_of_another_shape_or_not_finite_is_named(tmp_path, file_format, name, change):
    tensors = tiny_tensors(file_format)
    tensors["ema"][name] = change(tensors["ema"][name])
    sentence = refusal(written(tmp_path / "checkpoint", file_format, tensors))
    assert name in sentence and "expected" in sentence
    if change is longer:
        assert f"{len(tensors['ema'][name])}" in sentence and f"{len(tensors['ema'][name]) - 1}" in sentence


FILTERS = {
    "stylegan2-ada-pytorch": "synthesis.b8.conv0.resample_filter",
    "stylegan2-ada-pytorch-state": "synthesis.b8.resample_filter",
    "rosinality": "convs.0.conv.blur.kernel",
    "genforce": "synthesis.layer1.filter.kernel",
    "mmgeneration": "to_rgbs.0.upsample.kernel",
}


@pytest.mark.parametrize("wrong", ["gain", "taps"])
@pytest.mark.parametrize(("file_format", "name"), FILTERS.items())
def test_another_resampling_filter_is_refused_by_name(tmp_path, file_format, name, wrong):
    """Its gain as well: the four of upsampling is part of the kernel in some layouts."""
    tensors = tiny_tensors(file_format)
    kernel = tensors["ema"][name]
    tensors["ema"][name] = kernel / 2 if wrong == "gain" else torch.full_like(kernel, float(kernel.mean()))
    sentence = refusal(written(tmp_path / "checkpoint", file_format, tensors))
    assert name in sentence and "filter" in sentence


@pytest.mark.parametrize("file_format", ["rosinality", "genforce", "mmgeneration"])
def test_feature_maps_that_no_settings_give_are_refused(tmp_path, file_format):
    class Uneven(GeneratorConfig):
        @property
        def channels(self) -> dict[int, int]:
            return {4: 5, 8: 9, 16: 4}

    G = varied_generator(Uneven(16, 6, 0, 6, 2, 96, 20))
    tensors = foreign_tensors(file_format, G, G, varied_discriminator())
    sentence = refusal(written(tmp_path / "checkpoint", file_format, tensors))
    assert all(str(count) in sentence for count in (5, 9, 4))


# ---------------------------------------------------------------- attributes that change the arithmetic


def write_ada(path: Path, edit: Callable[[Called, Called], None]) -> Path:
    """A snapshot whose generator and discriminator were edited before they were pickled."""
    G = ada_pytorch.generator(layouts.ada_generator(varied_generator()), ada_options(TINY))
    D_options = ada_discriminator_options(TINY)
    D = ada_pytorch.discriminator(layouts.ada_discriminator(varied_discriminator()), D_options)
    edit(G, D)
    path.write_bytes(ada_pytorch.snapshot(G, D=D))
    return path


def inside(network: Called, path: str) -> dict[str, Any]:
    """The attributes of a module of a pickled network."""
    state = network.args[0]["state"]
    for name in path.split("."):
        state = state["_modules"][name].args[0]["state"]
    return state


@pytest.mark.parametrize(
    ("module", "attribute", "value"),
    [
        ("synthesis.b8", "architecture", "resnet"),
        ("synthesis.b8", "architecture", "orig"),
        ("synthesis.b8.conv1", "activation", "relu"),
        ("synthesis.b8.conv1", "use_noise", False),
        ("synthesis.b8.conv1", "conv_clamp", 3),
        ("mapping.fc1", "activation", "linear"),
        ("mapping.fc1", "bias_gain", 1.0),
    ],
)
def test_an_ada_generator_of_another_arithmetic_is_refused(tmp_path, module, attribute, value):
    def edit(G: Called, D: Called) -> None:
        inside(G, module)[attribute] = value

    word = {"bias_gain": "mapping", "conv_clamp": "clamp"}.get(attribute, attribute)
    assert word in refusal(write_ada(tmp_path / "network-snapshot.pkl", edit))


@pytest.mark.parametrize(
    ("module", "attribute", "value"),
    [("b8", "architecture", "skip"), ("b4.mbstd", "num_channels", 2), ("b8.conv0", "activation", "relu")],
)
def test_an_ada_discriminator_of_another_arithmetic_is_left_out(tmp_path, module, attribute, value):
    def edit(G: Called, D: Called) -> None:
        inside(D, module)[attribute] = value

    imported = import_checkpoint(write_ada(tmp_path / "network-snapshot.pkl", edit))
    assert imported.discriminator is None
    assert attribute in " ".join(imported.provenance["imported_notes"])


def test_frozen_layers_of_an_ada_discriminator(tmp_path):
    """What Freeze-D doesn't train is a buffer there, not a parameter."""

    def edit(G: Called, D: Called) -> None:
        for layer in ("fromrgb", "conv0", "conv1", "skip"):
            state = inside(D, f"b16.{layer}")
            state["_buffers"] |= {name: parameter.data for name, parameter in state["_parameters"].items()}
            state["_parameters"].clear()

    found = import_checkpoint(write_ada(tmp_path / "network-snapshot.pkl", edit)).discriminator
    assert found is not None
    images = torch.randn(4, 3, 16, 16)
    torch.testing.assert_close(found(images), varied_discriminator()(images))


def test_a_discriminator_without_a_tensor_is_left_out_with_a_note(tmp_path):
    tensors = tiny_tensors("rosinality")
    del tensors["d"]["final_conv.1.bias"]
    imported = import_checkpoint(written(tmp_path / "g.pt", "rosinality", tensors))
    assert imported.discriminator is None
    assert "final_conv.1.bias" in " ".join(imported.provenance["imported_notes"])


def test_a_state_dict_without_its_clamp_is_refused(tmp_path):
    path = torch_files.write(tmp_path / "g.pt", {"G_ema": layouts.ada_generator(varied_generator())})
    assert "conv_clamp" in refusal(path)


def test_the_stylegan3_repositorys_stylegan2(tmp_path):
    """It passes the synthesis network's options beside the generator's own."""
    G = varied_generator()
    options = ada_options(TINY)
    path = tmp_path / "network-snapshot.pkl"
    path.write_bytes(ada_pytorch.snapshot(ada_pytorch.generator(layouts.ada_generator(G), options, flat=True)))
    imported = import_checkpoint(path)
    assert (imported.format, imported.generator.config) == ("stylegan2-ada-pytorch", TINY)
    assert imported.discriminator is None


@pytest.mark.parametrize(("protocol", "old_numpy"), [(2, True), (3, True), (4, True)])
def test_ada_snapshots_of_every_protocol(tmp_path, protocol, old_numpy):
    G = ada_pytorch.generator(layouts.ada_generator(varied_generator()), ada_options(TINY))
    path = tmp_path / "network-snapshot.pkl"
    path.write_bytes(ada_pytorch.snapshot(G, protocol=protocol, old_numpy=old_numpy))
    assert import_checkpoint(path).generator.config == TINY


@pytest.mark.parametrize("file_format", ["rosinality", "genforce", "stylegan2-ada-pytorch"])
def test_a_generator_alone(tmp_path, file_format):
    """A state dict, or a pickled network, without the dictionary around it."""
    path, tensors = tmp_path / "alone", tiny_tensors(file_format)
    if file_format == "stylegan2-ada-pytorch":
        options = ada_options(TINY)
        path.write_bytes(dumps(ada_pytorch.generator(layouts.ada_generator(varied_generator()), options)))
    else:
        torch_files.write(path, {f"module.{name}": t for name, t in tensors["ema"].items()})
    with pytest.raises(ValueError, match="--which raw"):
        import_checkpoint(path, which="raw")
    imported = import_checkpoint(path)
    assert imported.format == file_format
    assert any("does not say" in note for note in imported.provenance["imported_notes"])
    assert torch.equal(imported.generator.synthesis.const, varied_generator().synthesis.const)


@pytest.mark.parametrize("file_format", ["rosinality", "genforce", "mmgeneration"])
def test_legacy_torch_files(tmp_path, file_format):
    """The container of PyTorch before 1.6."""
    tensors = tiny_tensors(file_format)
    made = {
        "rosinality": torch_files.rosinality_trained,
        "genforce": torch_files.genforce,
        "mmgeneration": torch_files.mmgeneration,
    }[file_format]
    content = made(tensors["ema"], tensors["raw"], tensors["d"])
    path = torch_files.write(tmp_path / "checkpoint.pth", content, legacy=True)
    found = import_checkpoint(path).generator.synthesis.state_dict()
    for name, tensor in varied_generator().synthesis.state_dict().items():
        torch.testing.assert_close(found[name], tensor)
    assert inspect_checkpoint(path).container == "torch legacy"


# ---------------------------------------------------------------- other architectures, by name


def stylegan3(path: Path) -> Path:
    options = ada_options(TINY) | {"img_resolution": 16}
    path.write_bytes(ada_pytorch.snapshot(ada_pytorch.generator(ada_pytorch.stylegan3_tensors(), options)))
    return path


def lucidrains(path: Path) -> Path:
    names = ["SE.net.0.weight", "GE.net.0.weight", "GE.initial_block", "GE.blocks.0.conv1.weight", "D.to_logit.weight"]
    return torch_files.write(path, {"GAN": {name: torch.zeros(2, 2) for name in names}, "version": "1.8.9"})


def old_tensorflow(path: Path, names: list[str], functions: dict[str, str], **settings: Any) -> Path:
    """A tuple of three networks of these variables; functions: by component, "" for the whole network."""
    variables = {name: np.zeros((2, 2), np.float32) for name in names} | {"lod": np.zeros([], np.float32)}
    settings = {"num_channels": 3, "resolution": 16, "label_size": 0} | settings
    module = "tfutil" if functions[""] == "G_paper" else "dnnlib.tflib.network"
    G = tensorflow.network(variables, settings, functions[""], module, functions)
    path.write_bytes(tensorflow.snapshot(G, G, G))
    return path


def stylegan1(path: Path) -> Path:
    names = ["mapping/Dense0/weight", "synthesis/4x4/Const/const", "synthesis/4x4/Const/Noise/weight"]
    names += ["synthesis/4x4/Const/StyleMod/weight", "synthesis/ToRGB_lod0/weight", "synthesis/noise0", "dlatent_avg"]
    return old_tensorflow(path, names, {"": "G_style", "mapping": "G_mapping", "synthesis": "G_synthesis"})


def progan(path: Path) -> Path:
    names = ["4x4/Dense/weight", "4x4/Dense/bias", "4x4/Conv/weight", "8x8/Conv0_up/weight", "ToRGB_lod0/weight"]
    return old_tensorflow(path, names, {"": "G_paper"}, latent_size=8)


def config_d(path: Path) -> Path:
    parts = ["weight", "mod_weight", "mod_bias", "bias"]
    layers = ["4x4/Conv", "8x8/Conv0_up", "8x8/Conv1", "ToRGB_lod0", "ToRGB_lod1"]
    names = [f"synthesis/{layer}/{part}" for layer in layers for part in parts]
    names += ["synthesis/4x4/Const/const", "synthesis/lod", "mapping/Dense0/weight", "dlatent_avg"]
    functions = {"": "G_main", "mapping": "G_mapping", "synthesis": "G_synthesis_stylegan_revised"}
    return old_tensorflow(path, names, functions, synthesis_func="G_synthesis_stylegan_revised")


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (stylegan3, ["StyleGAN3"]),
        (lucidrains, ["lucidrains"]),
        (stylegan1, ["StyleGAN", "StyleGAN2"]),
        (progan, ["ProGAN", "Progressive"]),
        (config_d, ["config"]),
    ],
)
def test_other_architectures_are_refused_by_name(tmp_path, write, words):
    sentence = refusal(write(tmp_path / "network.pkl"))
    assert any(word in sentence for word in words)
    assert inspect_checkpoint(tmp_path / "network.pkl").problem


@pytest.mark.parametrize("architecture", ["orig", "resnet"])
def test_tensorflow_generators_without_output_skips_are_refused(tmp_path, architecture):
    variables = layouts.tensorflow_generator(varied_generator())
    last = {n: a for n, a in variables.items() if "ToRGB" in n and "16x16" in n}
    variables = {n: a for n, a in variables.items() if "ToRGB" not in n}
    variables |= {n.replace("16x16/ToRGB", "ToRGB_lod0"): a for n, a in last.items()}
    if architecture == "resnet":
        variables["synthesis/8x8/Skip/weight"] = np.zeros((1, 1, 20, 12), np.float32)
    G = tensorflow.network(variables, tensorflow_kwargs(TINY) | {"architecture": architecture})
    path = tmp_path / "network.pkl"
    path.write_bytes(tensorflow.snapshot(G, G, G))
    sentence = refusal(path)
    assert "skip" in sentence.lower() or architecture in sentence


# ---------------------------------------------------------------- options and files of other kinds


@pytest.mark.parametrize("file_format", [name for name in FORMATS if name != "mmgeneration"])
def test_channel_order_is_for_mmgeneration_alone(tmp_path, file_format):
    path = write_checkpoint(tmp_path / "checkpoint", file_format, varied_generator())
    assert "bgr" in refusal(path, channel_order="bgr")


@pytest.mark.parametrize(
    ("content", "which", "missing"),
    [
        (lambda G: torch_files.rosinality_converted(layouts.rosinality_generator(G), G.mapping.w_avg), "raw", "g"),
        (lambda G: {"generator": layouts.genforce_generator(G)}, "ema", "generator_smooth"),
        (lambda G: {"state_dict": {f"generator.{n}": t for n, t in layouts.mmgeneration_generator(G).items()}}, "ema",
         "generator_ema"),
    ],
)  # fmt: skip
def test_the_network_that_a_file_lacks_is_named(tmp_path, content, which, missing):
    path = torch_files.write(tmp_path / "checkpoint.pt", content(varied_generator()))
    other = {"ema": "raw", "raw": "ema"}[which]
    assert re.search(rf"\b{missing}\b", refusal(path, which=which))
    assert import_checkpoint(path, which=other).provenance["imported_which"] == other


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "empty"),
        (b"Not a checkpoint, but text.\n", "neither"),
        (b"\x80\x04", "pickle"),
        (b"PK\x03\x04 and no archive", "zip"),
        (dumps([1, 2, 3]), "expected"),
        (dumps({"state_dict": {"conv1.weight": torch.zeros(2, 2)}}), "expected"),
    ],
    ids=["empty", "text", "truncated", "no zip", "plain values", "another network"],
)
def test_files_of_other_kinds(tmp_path, data, word):
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(data)
    assert word in refusal(path).lower()


def test_generator_files_directories_and_missing_files(tmp_path):
    save_generator(varied_generator(), tmp_path / "g.safetensors")
    assert "expected a checkpoint" in refusal(tmp_path / "g.safetensors")
    assert "directory" in refusal(tmp_path)
    assert "no such file" in refusal(tmp_path / "absent.pkl").lower()


@pytest.mark.parametrize("size", [100, 20_000])
@pytest.mark.parametrize("file_format", FORMATS)
def test_truncated_files(tmp_path, file_format, size):
    path = write_checkpoint(tmp_path / "checkpoint", file_format, varied_generator())
    path.write_bytes(path.read_bytes()[:size])
    refusal(path)


# ---------------------------------------------------------------- nothing is executed


def test_what_a_pickle_would_run_is_listed_and_not_run(tmp_path):
    """Beside the network, inside it, and in the byte string of a tensor's storage."""
    marker = tmp_path / "marker"
    call = Called(Name("pathlib", "Path.touch"), (Called(Name("pathlib", "Path"), (str(marker),)),))

    def edit(G: Called, D: Called) -> None:
        inside(G, "synthesis.b8.conv1")["anything"] = call
        inside(G, "mapping")["more"] = Called(Name("torch.storage", "_load_from_bytes"), (dumps(call, 2),))
        inside(G, "mapping.fc0")["object"] = instance("no_such_module", "Thing", {"call": call})

    path = write_ada(tmp_path / "network-snapshot.pkl", edit)
    uses = {(use.module, use.name): use.known for use in inspect_checkpoint(path).globals}
    assert uses["pathlib", "Path.touch"] is False and uses["no_such_module", "Thing"] is False
    assert uses["torch_utils.persistence", "_reconstruct_persistent_obj"] is True
    try:
        import_checkpoint(path)
    except ValueError as error:
        assert str(error).startswith(f"{path}: ")
    assert not marker.exists()
