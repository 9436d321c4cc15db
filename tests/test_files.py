"""Generator files: what is read is what was written, and anything else is refused by name."""

import hashlib
import json
import math
import os
import re
import resource
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from generator import Generator, GeneratorConfig, load_generator, save_generator
from generator.files import (
    DISCRIMINATOR_FORMAT,
    file_sha256,
    load_discriminator,
    read_provenance,
    remove_partial_files,
    save_network,
    write_atomically,
)
from generator.networks import build_discriminator

CONFIG = GeneratorConfig(
    resolution=8, z_dim=3, c_dim=2, w_dim=4, mapping_layers=1, channel_base=16, channel_max=2, clamp=256
)
PROVENANCE = {"kimg": 1.5, "parent": None, "data_sha256": "é" * 4}


@pytest.fixture
def path(tmp_path) -> Path:
    path = tmp_path / "g.safetensors"
    save_generator(Generator(CONFIG), path, PROVENANCE)
    return path


def rewrite(path: Path, change) -> None:
    """Let `change` edit the tensors and the metadata of a generator file."""
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    change(tensors, metadata)
    save_file(tensors, path, metadata)


def test_no_length_of_the_header_makes_it_another_kind_of_file(tmp_path):
    """The file begins with that length, whose first byte may be the one that pickles begin with."""
    starts = set()
    for note in range(0, 256, 8):
        save_generator(Generator(CONFIG), tmp_path / "g.safetensors", {"note": "x" * note})
        starts.add((tmp_path / "g.safetensors").read_bytes()[0])
        assert load_generator(tmp_path / "g.safetensors").config == CONFIG
    assert len(starts) == 32 and 0x80 in starts


def test_round_trip_is_bit_identical(tmp_path):
    G = Generator(CONFIG).to(memory_format=torch.channels_last)
    G.mapping.w_avg.normal_()
    save_generator(G, tmp_path / "a.safetensors")
    loaded = load_generator(str(tmp_path / "a.safetensors"))
    assert loaded.config == CONFIG
    assert loaded.state_dict().keys() == G.state_dict().keys()
    for name, tensor in G.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name


def test_the_same_generator_gives_the_same_bytes(tmp_path):
    G = Generator(CONFIG)
    for i in range(6):
        save_generator(G, tmp_path / f"{i}.safetensors", PROVENANCE)
    assert len({file_sha256(path) for path in tmp_path.iterdir()}) == 1


def test_a_generator_file_is_as_readable_as_any_new_file(path):
    other = path.with_name("other")
    other.touch()
    assert path.stat().st_mode == other.stat().st_mode


def test_a_loaded_generator_is_frozen_and_leaves_the_callers_randomness_alone(path):
    before = torch.get_rng_state()
    G = load_generator(path)
    assert torch.equal(torch.get_rng_state(), before)
    assert not G.training and not any(p.requires_grad for p in G.parameters())


def test_metadata_is_readable_without_latentprint(path):
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
        names = set(file.keys())
    assert metadata["format"] == "latentprint.generator/1"
    assert metadata["architecture"] == "stylegan2"
    assert GeneratorConfig(**json.loads(metadata["config"])) == CONFIG
    assert json.loads(metadata["provenance"]) == PROVENANCE == read_provenance(path)
    assert "mapping.w_avg" in names and sum(name.endswith("noise_const") for name in names) == 3


def test_file_sha256_is_that_of_the_bytes(path):
    assert file_sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"none\.safetensors: no such file, expected"):
        load_generator(tmp_path / "none.safetensors")
    with pytest.raises(ValueError, match="no such file"):
        load_generator(tmp_path)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x04K\x01.", b"\xff" * 64])
def test_another_kind_of_file_is_named(path, content):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"g\.safetensors: found .*expected a (generator file|StyleGAN2 checkpoint)"):
        load_generator(path)


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.999])
def test_a_truncated_file_is_named(path, kept):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(ValueError, match=r"g\.safetensors: found .*expected a generator file"):
        load_generator(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t, m: m.update(format="latentprint.encoder/1"),
            "found format 'latentprint.encoder/1', expected 'latentpr",
        ),
        (lambda t, m: m.pop("format"), "found format None, expected"),
        (lambda t, m: m.update(architecture="stylegan3"), "found architecture 'stylegan3', expected 'stylegan2'"),
        (lambda t, m: m.pop("config"), "found no config"),
        (lambda t, m: m.update(config="{"), "found settings that no generator has"),
        (lambda t, m: m.update(config="[1]"), "found settings that no generator has"),
        (
            lambda t, m: m.update(config='{"resolution": 7}'),
            "found settings that no generator has .resolution: found 7",
        ),
        (lambda t, m: m.update(config='{"colour": 1}'), "found settings that no generator has .*colour"),
        (lambda t, m: m.update(config="[" * 100_000), "found settings that no generator has"),
        (lambda t, m: m.update(provenance="{"), "found a provenance that JSON does not have"),
        (lambda t, m: m.update(provenance='{"x": NaN}'), "found a provenance that JSON does not have"),
        (lambda t, m: m.update(provenance='{"x": [1e999]}'), "found a provenance that JSON does not have"),
        (lambda t, m: m.update(provenance='{"\\ud800": 1}'), "found a provenance that JSON does not have"),
        (lambda t, m: m.update(provenance=f'{{"x": {"9" * 5000}}}'), "found a provenance that JSON does not have"),
        (lambda t, m: m.update(provenance=f'{{"x": {"[" * 100_000}'), "found a provenance that JSON does not have"),
        (lambda t, m: m.update(provenance=f'{{"x": {"[" * 40}{"]" * 40}}}'), "found a provenance of more than 32 lev"),
        (lambda t, m: m.update(provenance="[1, 2]"), r"found a provenance of \[1, 2\], expected a JSON object"),
        (lambda t, m: m.update(provenance="null"), "found a provenance of null, expected a JSON object"),
        (lambda t, m: m.update(provenance='{"original_sha256": ["a"]}'), r"found original_sha256 \['a'\] in its prov"),
        (lambda t, m: t.pop("synthesis.const"), "tensor synthesis.const is missing"),
        (lambda t, m: t["synthesis.const"].fill_(math.nan), "tensor synthesis.const holds numbers that are not finite"),
        (lambda t, m: t["mapping.w_avg"].fill_(-math.inf), "tensor mapping.w_avg holds numbers that are not finite"),
        (
            lambda t, m: t.update({"mapping.w_avg": torch.full([4], 1e300, dtype=torch.float64)}),
            "tensor mapping.w_avg holds numbers that are not finite",  # in float32
        ),
        (
            lambda t, m: t.update({"mapping.w_avg": torch.zeros(4, dtype=torch.int64)}),
            "tensor mapping.w_avg has type torch.int64, expected floating point",
        ),
        (lambda t, m: t.update(extra=torch.zeros(1)), "found an unexpected tensor extra"),
        (
            lambda t, m: t.update({"mapping.w_avg": torch.zeros(5)}),
            r"tensor mapping.w_avg has shape \(5,\), expected \(4,\)",
        ),
    ],
)
def test_what_does_not_fit_is_named(path, change, message):
    rewrite(path, change)
    with pytest.raises(ValueError, match=rf"g\.safetensors: {message}"):
        load_generator(path)


def test_settings_that_ask_for_too_much_are_refused_before_it_is_taken(path):
    largest = json.dumps({"w_dim": 65536, "z_dim": 65536, "mapping_layers": 64, "channel_max": 65536})  # a terabyte
    rewrite(path, lambda t, m: m.update(config=largest))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=r"g\.safetensors: tensor mapping\.embed|is missing"):
        load_generator(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20  # a GiB, in KiB


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_point_becomes_float32_on_real_memory(path, dtype):
    rewrite(path, lambda t, m: t.update({name: tensor.to(dtype) for name, tensor in t.items()}))
    G = load_generator(path)
    assert {(t.dtype, t.device.type) for t in (*G.parameters(), *G.buffers())} == {(torch.float32, "cpu")}
    kept = load_file(path)
    assert all(torch.equal(t, kept[name].float()) for name, t in G.state_dict().items())


def test_a_loaded_generator_does_not_read_the_file_again(path):
    G = load_generator(path)
    before = {name: tensor.clone() for name, tensor in G.state_dict().items()}
    with path.open("r+b") as file:
        file.write(b"\0" * path.stat().st_size)
    assert all(torch.equal(t, before[name]) for name, t in G.state_dict().items())


def test_a_failed_write_names_the_file_and_leaves_nothing(tmp_path, monkeypatch):
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError, match=re.escape(f"{tmp_path}/folder'") + "$"):
        write_atomically(tmp_path / "folder", b"data")
    with pytest.raises(FileNotFoundError, match=re.escape(f"{tmp_path}/none/x'") + "$"):
        write_atomically(tmp_path / "none" / "x", b"data")

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "x", b"data")
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_only_what_a_killed_write_left_is_removed(tmp_path):
    kept = {"x.partial", ".x.partial", ".x.7.partial.png", "x.7.partial"}
    for name in (*kept, ".x.png.7.partial", ".a b.123456.partial"):
        (tmp_path / name).write_bytes(b"")
    remove_partial_files(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == kept


def test_readers_see_the_old_bytes_until_all_of_the_new_ones_are_there(tmp_path, monkeypatch):
    path = tmp_path / "report.json"
    write_atomically(path, b"old")
    seen = []
    replace = os.replace

    def watched(partial: Path, final: Path) -> None:
        seen.append(path.read_bytes())
        replace(partial, final)

    monkeypatch.setattr(os, "replace", watched)
    write_atomically(path, b"new and longer")
    assert seen == [b"old"]
    assert path.read_bytes() == b"new and longer"
    assert [p.name for p in tmp_path.iterdir()] == ["report.json"]


@pytest.fixture
def discriminator_path(tmp_path) -> Path:
    path = tmp_path / "d.safetensors"
    save_network(build_discriminator(CONFIG), path, {"format": DISCRIMINATOR_FORMAT})
    return path


def test_a_discriminator_is_read_as_it_was_written(tmp_path):
    D, other = (build_discriminator(CONFIG).to(memory_format=torch.channels_last) for _ in range(2))
    save_network(D, tmp_path / "d.safetensors", {"format": DISCRIMINATOR_FORMAT})
    load_discriminator(str(tmp_path / "d.safetensors"), other)
    for name, tensor in D.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor), name
    assert all(p.requires_grad for p in other.parameters())


@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x04K\x01.", b"\xff" * 64])
def test_another_kind_of_discriminator_file_is_named(discriminator_path, content):
    discriminator_path.write_bytes(content)
    with pytest.raises(ValueError, match=r"d\.safetensors: found no readable .*expected a discriminator file"):
        load_discriminator(discriminator_path, build_discriminator(CONFIG))


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.999])
def test_a_truncated_discriminator_file_is_named(discriminator_path, kept):
    data = discriminator_path.read_bytes()
    discriminator_path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(ValueError, match=r"d\.safetensors: found no readable .*expected a discriminator file"):
        load_discriminator(discriminator_path, build_discriminator(CONFIG))


def test_a_missing_discriminator_file_is_named(tmp_path):
    for path in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(ValueError, match=rf"^{path}: found no readable safetensors file"):
            load_discriminator(path, build_discriminator(CONFIG))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t, m: m.update(format="latentprint.generator/1"),
            "found format 'latentprint.generator/1', expected 'la",
        ),
        (lambda t, m: m.pop("format"), "found format None, expected 'latentprint.discriminator/1'"),
        (lambda t, m: t.pop("out.bias"), "tensor out.bias is missing"),
        (lambda t, m: t.update(extra=torch.zeros(1)), "found an unexpected tensor extra"),
        (lambda t, m: t.update({"out.bias": torch.zeros(9)}), r"tensor out.bias has shape \(9,\), expected"),
        (lambda t, m: t["out.bias"].fill_(math.nan), "tensor out.bias holds numbers that are not finite"),
        (lambda t, m: t.update({"out.bias": t["out.bias"].int()}), "tensor out.bias has type torch.int32, expected"),
    ],
)
def test_what_does_not_fit_a_discriminator_is_named_and_changes_nothing(discriminator_path, change, message):
    rewrite(discriminator_path, lambda t, m: (m.setdefault("kept", "yes"), change(t, m)))
    D = build_discriminator(CONFIG)
    before = {name: tensor.clone() for name, tensor in D.state_dict().items()}
    with pytest.raises(ValueError, match=rf"d\.safetensors: {message}"):
        load_discriminator(discriminator_path, D)
    assert all(torch.equal(tensor, before[name]) for name, tensor in D.state_dict().items())
