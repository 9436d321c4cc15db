"""rosinality's stylegan2-pytorch: state dicts g_ema, g and d in a torch file."""

from collections.abc import Iterator

from generator.importers.containers import Container
from generator.importers.foreign import (
    ForeignCheckpoint,
    ForeignDiscriminator,
    ForeignGenerator,
    asked_for,
    only_rgb,
    state_dicts,
)
from generator.importers.matching import (
    BATCHED,
    IMAGE_BIAS,
    NOISE_MAP,
    ONE_NUMBER,
    Rule,
    count,
    feature_map_rule,
    shape_of,
)
from generator.importers.places import Convolution, convolutions, discriminator_blocks, rgb_layers
from generator.importers.records import entries_of, state_dict
from generator.importers.stored_tensors import StoredTensor, stored_tensor
from generator.networks import GeneratorConfig

FORMAT = "rosinality"
MARK = "conv1.conv.modulation.weight"  # a tensor that only these generators have
NETWORKS = {"ema": "g_ema", "raw": "g"}


def recognises(container: Container) -> bool:
    """Whether a checkpoint is of this format."""
    entries, _ = state_dicts(container, MARK, NETWORKS["ema"])
    return any(MARK in entries_of(entries.get(name)) for name in NETWORKS.values())


def read(container: Container, which: str, channel_order: str) -> ForeignCheckpoint:
    """Settings, inferred from shapes, and tensors. Raises ValueError for a network of other parts."""
    only_rgb(channel_order, FORMAT)
    entries, notes = state_dicts(container, MARK, NETWORKS["ema"])
    tensors = state_dict(asked_for(entries, NETWORKS, which), container) or {}
    average = stored_tensor(entries.get("latent_avg"), container)
    if average is not None:
        tensors["latent_avg"] = average
    config = _config(tensors)
    lacking = {"mapping.w_avg"} if average is None else set()
    if not any(found.startswith("noises.") for found in tensors):
        lacking |= {f"{conv.ours}.noise_const" for conv in convolutions(config)}
    rules = tuple(rule for rule in generator_rules(config) if rule.ours not in lacking)
    generator = ForeignGenerator(config, tensors, rules, generator_filters(config), frozenset(lacking))
    found = state_dict(entries.get("d"), container)
    discriminator = None
    if found is not None:
        filters = discriminator_filters(config)
        discriminator = ForeignDiscriminator(found, tuple(discriminator_rules(config)), filters)
    return ForeignCheckpoint(FORMAT, generator, discriminator, notes=notes)


def _config(tensors: dict[str, StoredTensor]) -> GeneratorConfig:
    channels = {4: shape_of(tensors, "conv1.conv.weight", 5)[1]}
    for i in range(count(tensors, "convs.{}.conv.weight") // 2):
        channels[8 << i] = shape_of(tensors, f"convs.{2 * i + 1}.conv.weight", 5)[1]
    w_dim, z_dim = shape_of(tensors, "style.1.weight", 2)
    layers = count(tensors, "style.{}.weight", first=1)
    rule = feature_map_rule(channels)
    return GeneratorConfig(max(channels), z_dim=z_dim, w_dim=w_dim, mapping_layers=layers, **rule)


def _conv(conv: Convolution) -> str:
    return "conv1" if conv.number == 0 else f"convs.{conv.number - 1}"


def _rgb(number: int) -> str:
    return "to_rgb1" if number == 0 else f"to_rgbs.{number - 1}"


def generator_rules(config: GeneratorConfig) -> Iterator[Rule]:
    """Every tensor of a generator but its resampling filters."""
    yield Rule("mapping.w_avg", "latent_avg")
    for i in range(config.mapping_layers):
        for kind in ("weight", "bias"):
            yield Rule(f"mapping.layers.{i}.{kind}", f"style.{i + 1}.{kind}")
    yield Rule("synthesis.const", "input.input", BATCHED)
    for conv in convolutions(config):
        theirs = _conv(conv)
        yield Rule(f"{conv.ours}.weight", f"{theirs}.conv.weight", BATCHED)
        yield Rule(f"{conv.ours}.affine.weight", f"{theirs}.conv.modulation.weight")
        yield Rule(f"{conv.ours}.affine.bias", f"{theirs}.conv.modulation.bias")
        yield Rule(f"{conv.ours}.bias", f"{theirs}.activate.bias")
        yield Rule(f"{conv.ours}.noise_strength", f"{theirs}.noise.weight", ONE_NUMBER)
        yield Rule(f"{conv.ours}.noise_const", f"noises.noise_{conv.number}", NOISE_MAP)
    for rgb in rgb_layers(config):
        theirs = _rgb(rgb.number)
        yield Rule(f"{rgb.ours}.weight", f"{theirs}.conv.weight", BATCHED)
        yield Rule(f"{rgb.ours}.bias", f"{theirs}.bias", IMAGE_BIAS)
        yield Rule(f"{rgb.ours}.affine.weight", f"{theirs}.conv.modulation.weight")
        yield Rule(f"{rgb.ours}.affine.bias", f"{theirs}.conv.modulation.bias")


def generator_filters(config: GeneratorConfig) -> dict[str, float]:
    """A generator's resampling filters, with their sums: they carry the gain of upsampling, 4."""
    names = [f"{_conv(conv)}.conv.blur.kernel" for conv in convolutions(config) if conv.up]
    names += [f"{_rgb(rgb.number)}.upsample.kernel" for rgb in rgb_layers(config)[1:]]
    return dict.fromkeys(names, 4.0)


def discriminator_rules(config: GeneratorConfig) -> Iterator[Rule]:
    """Every tensor of a discriminator but its resampling filters."""
    yield Rule("from_rgb.weight", "convs.0.0.weight")
    yield Rule("from_rgb.bias", "convs.0.1.bias")
    for block in discriminator_blocks(config):
        theirs = f"convs.{block.number + 1}"
        yield Rule(f"{block.ours}.conv0.weight", f"{theirs}.conv1.0.weight")
        yield Rule(f"{block.ours}.conv0.bias", f"{theirs}.conv1.1.bias")
        yield Rule(f"{block.ours}.conv1.weight", f"{theirs}.conv2.1.weight")
        yield Rule(f"{block.ours}.conv1.bias", f"{theirs}.conv2.2.bias")
        yield Rule(f"{block.ours}.skip.weight", f"{theirs}.skip.1.weight")
    yield Rule("conv.weight", "final_conv.0.weight")
    yield Rule("conv.bias", "final_conv.1.bias")
    for ours, theirs in (("fc", "final_linear.0"), ("out", "final_linear.1")):
        for kind in ("weight", "bias"):
            yield Rule(f"{ours}.{kind}", f"{theirs}.{kind}")


def discriminator_filters(config: GeneratorConfig) -> dict[str, float]:
    """A discriminator's resampling filters, with their sums."""
    blocks = discriminator_blocks(config)
    return {f"convs.{block.number + 1}.{name}.0.kernel": 1.0 for block in blocks for name in ("conv2", "skip")}
