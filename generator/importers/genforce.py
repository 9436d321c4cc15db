"""GenForce's StyleGAN2: state dicts generator_smooth, generator and discriminator in a torch file.

Style biases are stored without their 1, and the upsampling convolutions' kernels unflipped.
"""

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
    FLIPPED,
    FROM_ZERO,
    NOISE_MAP,
    SAME,
    Rule,
    count,
    feature_map_rule,
    shape_of,
)
from generator.importers.places import convolutions, discriminator_blocks, rgb_layers
from generator.importers.records import entries_of, state_dict
from generator.importers.stored_tensors import StoredTensor
from generator.networks import GeneratorConfig

FORMAT = "genforce"
MARK = "synthesis.early_layer.const"  # a tensor that only these generators have
NETWORKS = {"ema": "generator_smooth", "raw": "generator"}


def recognises(container: Container) -> bool:
    """Whether a checkpoint is of this format."""
    entries, _ = state_dicts(container, MARK, NETWORKS["ema"])
    return any(MARK in entries_of(entries.get(name)) for name in NETWORKS.values())


def read(container: Container, which: str, channel_order: str) -> ForeignCheckpoint:
    """Settings, inferred from shapes, and tensors. Raises ValueError for a network of other parts."""
    only_rgb(channel_order, FORMAT)
    entries, notes = state_dicts(container, MARK, NETWORKS["ema"])
    tensors = state_dict(asked_for(entries, NETWORKS, which), container) or {}
    if "mapping.label_weight" in tensors:
        raise ValueError(
            "found a conditional GenForce network, expected an unconditional one: "
            "it normalises latent code and label together, which our mapping network does not do"
        )
    if "synthesis.layer0.weight" not in tensors:
        raise ValueError("found a GenForce network of another kind (StyleGAN or PGGAN), expected StyleGAN2")
    config = _config(tensors)
    rules, filters = tuple(generator_rules(config)), generator_filters(config)
    generator = ForeignGenerator(config, tensors, rules, filters)
    found = state_dict(entries.get("discriminator"), container)
    discriminator = None
    if found is not None:
        names = discriminator_filters(config)
        discriminator = ForeignDiscriminator(found, tuple(discriminator_rules(config)), names)
    return ForeignCheckpoint(FORMAT, generator, discriminator, notes=notes)


def _config(tensors: dict[str, StoredTensor]) -> GeneratorConfig:
    layers = count(tensors, "synthesis.layer{}.weight")
    channels = {4 << i: shape_of(tensors, f"synthesis.layer{2 * i}.weight", 4)[0] for i in range((layers + 1) // 2)}
    w_dim, _ = shape_of(tensors, "synthesis.layer0.style.weight", 2)[::-1]
    _, z_dim = shape_of(tensors, "mapping.dense0.weight", 2)
    depth = count(tensors, "mapping.dense{}.weight")
    rule = feature_map_rule(channels)
    return GeneratorConfig(max(channels), z_dim=z_dim, w_dim=w_dim, mapping_layers=depth, **rule)


def generator_rules(config: GeneratorConfig) -> Iterator[Rule]:
    """Every tensor of a generator but its resampling filters."""
    yield Rule("mapping.w_avg", "truncation.w_avg")
    for i in range(config.mapping_layers):
        for kind in ("weight", "bias"):
            yield Rule(f"mapping.layers.{i}.{kind}", f"mapping.dense{i}.{kind}")
    yield Rule("synthesis.const", "synthesis.early_layer.const", BATCHED)
    for conv in convolutions(config):
        theirs = f"synthesis.layer{conv.number}"
        yield Rule(f"{conv.ours}.weight", f"{theirs}.weight", FLIPPED if conv.up else SAME)
        yield Rule(f"{conv.ours}.bias", f"{theirs}.bias")
        yield Rule(f"{conv.ours}.affine.weight", f"{theirs}.style.weight")
        yield Rule(f"{conv.ours}.affine.bias", f"{theirs}.style.bias", FROM_ZERO)
        yield Rule(f"{conv.ours}.noise_strength", f"{theirs}.noise_strength")
        yield Rule(f"{conv.ours}.noise_const", f"{theirs}.noise", NOISE_MAP)
    for rgb in rgb_layers(config):
        theirs = f"synthesis.output{rgb.number}"
        yield Rule(f"{rgb.ours}.weight", f"{theirs}.weight")
        yield Rule(f"{rgb.ours}.bias", f"{theirs}.bias")
        yield Rule(f"{rgb.ours}.affine.weight", f"{theirs}.style.weight")
        yield Rule(f"{rgb.ours}.affine.bias", f"{theirs}.style.bias", FROM_ZERO)


def generator_filters(config: GeneratorConfig) -> dict[str, float]:
    """A generator's resampling filters, with their sums: they carry the gain of upsampling, 4."""
    names = [f"synthesis.layer{conv.number}.filter.kernel" for conv in convolutions(config) if conv.up]
    return dict.fromkeys(["synthesis.upsample.kernel", *names], 4.0)


def discriminator_rules(config: GeneratorConfig) -> Iterator[Rule]:
    """Every tensor of a discriminator but its resampling filters."""
    blocks = discriminator_blocks(config)
    last = 2 * len(blocks)
    names = [("from_rgb", "input0")]
    for block in blocks:
        names += [(f"{block.ours}.conv{i}", f"layer{2 * block.number + i}") for i in range(2)]
        yield Rule(f"{block.ours}.skip.weight", f"skip_layer{block.number}.weight")
    for ours, theirs in [*names, ("conv", f"layer{last}"), ("fc", f"layer{last + 1}"), ("out", f"layer{last + 2}")]:
        for kind in ("weight", "bias"):
            yield Rule(f"{ours}.{kind}", f"{theirs}.{kind}")


def discriminator_filters(config: GeneratorConfig) -> dict[str, float]:
    """A discriminator's resampling filters, with their sums."""
    numbers = [block.number for block in discriminator_blocks(config)]
    names = [f"layer{2 * i + 1}" for i in numbers] + [f"skip_layer{i}" for i in numbers]
    return {f"{name}.filter.kernel": 1.0 for name in names}
