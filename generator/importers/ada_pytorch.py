"""stylegan2-ada-pytorch and the stylegan3 repository's StyleGAN2: pickled networks, or plain state dicts.

Layout: a dictionary of G, D and G_ema; every module a call with class name, source text and state. The source is never
looked at: class names, attributes and tensors say all that matters.
"""

from collections.abc import Iterator
from typing import Any

from generator.importers.containers import Container
from generator.importers.foreign import (
    LONE_NOTE,
    ForeignCheckpoint,
    ForeignDiscriminator,
    ForeignGenerator,
    asked_for,
    only_rgb,
)
from generator.importers.matching import Rule, count, feature_map_rule, shape_of
from generator.importers.pickled import described
from generator.importers.places import convolutions, discriminator_blocks, rgb_layers
from generator.importers.records import Module, as_dict, as_module, is_module, state_dict
from generator.importers.stored_tensors import StoredTensor
from generator.networks import GeneratorConfig

FORMAT, STATE_FORMAT = "stylegan2-ada-pytorch", "stylegan2-ada-pytorch-state"
NETWORKS = {"ema": "G_ema", "raw": "G"}
WHOLE_BATCH = 2**16  # a minibatch standard deviation without group size takes all images together

# Attributes that change the arithmetic, by class, and the only value that our networks have.
REQUIRED: dict[str, dict[str, Any]] = {
    "SynthesisLayer": {"use_noise": True, "activation": "lrelu"},
    "SynthesisBlock": {"architecture": "skip"},
    "DiscriminatorBlock": {"architecture": "resnet"},
    "MinibatchStdLayer": {"num_channels": 1},
}
MAPPING_LR = 0.01
SKIP = "skip"  # linear, and never clamped


def recognises(container: Container) -> bool:
    """Whether a checkpoint is of this family."""
    entries, _ = _networks(container)
    named = [entries[name] for name in NETWORKS.values() if name in entries]
    return any(is_module(value) or "synthesis.b4.const" in (as_dict(value) or {}) for value in named)


def read(container: Container, which: str, channel_order: str) -> ForeignCheckpoint:
    """Settings and tensors. Raises ValueError for another architecture, or settings that our networks don't have."""
    only_rgb(channel_order, FORMAT)
    entries, notes = _networks(container)
    network = asked_for(entries, NETWORKS, which)
    if not is_module(network):
        return _read_state(container, entries, network)
    G = as_module(network, container)
    assert G is not None
    if G.class_name != "Generator" or "synthesis" not in G.children or "mapping" not in G.children:
        raise ValueError(f"found a network of class {described(G.class_name)}, expected a Generator")
    if "input" in G.children["synthesis"].children:
        raise ValueError(
            "found a StyleGAN3 network, expected a StyleGAN2 one: its alias-free synthesis network "
            "(Fourier features, filtered nonlinearities) would have to be built first"
        )
    _require(G)
    generator = _generator(G.all_tensors(), _clamp(G, ("SynthesisLayer", "ToRGBLayer")))
    discriminator = None
    try:
        discriminator = _discriminator(as_module(entries.get("D"), container), generator.config)
    except ValueError as error:
        notes = (*notes, f"the discriminator was left out: {error}")
    return ForeignCheckpoint(FORMAT, generator, discriminator, _plain(G.attributes.get("_init_kwargs")), notes)


def _networks(container: Container) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The networks by name, and a note where the file is nothing but one of them."""
    if is_module(container.value):
        return {NETWORKS["ema"]: container.value}, (LONE_NOTE,)
    return as_dict(container.value) or {}, ()


def _read_state(container: Container, entries: dict[str, Any], network: Any) -> ForeignCheckpoint:
    settings = _plain(entries.get("init_kwargs"))
    synthesis = settings.get("synthesis_kwargs", settings)
    if type(synthesis) is not dict or "conv_clamp" not in synthesis:
        raise ValueError("found a plain state dict without init_kwargs, expected conv_clamp: it changes the images")
    generator = _generator(state_dict(network, container) or {}, _number(synthesis["conv_clamp"]))
    tensors = state_dict(entries.get("D"), container)
    discriminator = None
    if tensors is not None:
        own = _plain(entries.get("D_init_kwargs"))
        epilogue = own.get("epilogue_kwargs")
        group_size = epilogue.get("mbstd_group_size", 4) if type(epilogue) is dict else 4
        discriminator = _discriminator_of(tensors, generator.config, group_size, _number(own.get("conv_clamp")))
    return ForeignCheckpoint(STATE_FORMAT, generator, discriminator, settings)


def _generator(tensors: dict[str, StoredTensor], clamp: float | None) -> ForeignGenerator:
    resolutions = [2**i for i in range(2, 11) if f"synthesis.b{2**i}.conv1.weight" in tensors]
    channels = {r: shape_of(tensors, f"synthesis.b{r}.conv1.weight", 4)[0] for r in resolutions}
    if 4 not in channels:
        raise ValueError("tensor synthesis.b4.conv1.weight is missing")
    w_dim, first = shape_of(tensors, "mapping.fc0.weight", 2)
    c_dim = shape_of(tensors, "mapping.embed.weight", 2)[1] if "mapping.embed.weight" in tensors else 0
    config = GeneratorConfig(
        resolution=max(channels),
        z_dim=first - w_dim if c_dim else first,
        c_dim=c_dim,
        w_dim=w_dim,
        mapping_layers=count(tensors, "mapping.fc{}.weight"),
        clamp=clamp,
        **feature_map_rule(channels),
    )
    return ForeignGenerator(config, tensors, tuple(generator_rules(config)), generator_filters(config))


def generator_rules(config: GeneratorConfig) -> Iterator[Rule]:
    """Every tensor of a generator but its resampling filters."""
    yield Rule("mapping.w_avg", "mapping.w_avg")
    names = [(f"layers.{i}", f"fc{i}") for i in range(config.mapping_layers)]
    for ours, theirs in names + ([("embed", "embed")] if config.c_dim else []):
        yield from _both(f"mapping.{ours}", f"mapping.{theirs}")
    yield Rule("synthesis.const", "synthesis.b4.const")
    for conv in convolutions(config):
        theirs = _conv(conv.resolution, conv.index)
        yield from _both(conv.ours, theirs)
        yield from _both(f"{conv.ours}.affine", f"{theirs}.affine")
        yield Rule(f"{conv.ours}.noise_strength", f"{theirs}.noise_strength")
        yield Rule(f"{conv.ours}.noise_const", f"{theirs}.noise_const")
    for rgb in rgb_layers(config):
        yield from _both(rgb.ours, f"synthesis.b{rgb.resolution}.torgb")
        yield from _both(f"{rgb.ours}.affine", f"synthesis.b{rgb.resolution}.torgb.affine")


def generator_filters(config: GeneratorConfig) -> dict[str, float]:
    """A generator's resampling filters, with their sums."""
    places = [f"synthesis.b{r}" for r in config.channels]
    places += [_conv(conv.resolution, conv.index) for conv in convolutions(config)]
    return {f"{place}.resample_filter": 1.0 for place in places}


def _conv(resolution: int, index: int) -> str:
    return f"synthesis.b{resolution}.conv{1 if resolution == 4 else index}"


def _both(ours: str, theirs: str) -> list[Rule]:
    return [Rule(f"{ours}.{kind}", f"{theirs}.{kind}") for kind in ("weight", "bias")]


# ---------------------------------------------------------------- discriminator


def _discriminator(D: Module | None, config: GeneratorConfig) -> ForeignDiscriminator | None:
    if D is None:
        return None
    _require(D)
    layers = [module for _, module in D.walk() if module.class_name == "MinibatchStdLayer"]
    groups = [module.attributes.get("group_size", 4) for module in layers]
    if len(groups) != 1:
        raise ValueError(f"found {len(groups)} minibatch standard deviation layers, expected one")
    group_size = WHOLE_BATCH if groups[0] is None else groups[0]
    clamp = _clamp(D, ("Conv2dLayer",))
    return _discriminator_of(D.all_tensors(), config, group_size, clamp)


def _discriminator_of(
    tensors: dict[str, StoredTensor], config: GeneratorConfig, group_size: int, clamp: float | None
) -> ForeignDiscriminator:
    if type(group_size) is not int or group_size < 1:
        raise ValueError(f"found a minibatch group of {described(group_size)}, expected a whole number from 1")
    layers = count(tensors, "mapping.fc{}.weight")
    rules = tuple(discriminator_rules(config, layers))
    return ForeignDiscriminator(tensors, rules, discriminator_filters(config), group_size, clamp, layers)


def discriminator_rules(config: GeneratorConfig, label_layers: int) -> Iterator[Rule]:
    """Every tensor of a discriminator but its resampling filters."""
    yield from _both("from_rgb", f"b{config.resolution}.fromrgb")
    for block in discriminator_blocks(config):
        yield from _both(f"{block.ours}.conv0", f"b{block.resolution}.conv0")
        yield from _both(f"{block.ours}.conv1", f"b{block.resolution}.conv1")
        yield Rule(f"{block.ours}.skip.weight", f"b{block.resolution}.skip.weight")
    for name in ("conv", "fc", "out"):
        yield from _both(name, f"b4.{name}")
    if config.c_dim:
        yield from _both("label_mapping.embed", "mapping.embed")
        for i in range(label_layers):
            yield from _both(f"label_mapping.layers.{i}", f"mapping.fc{i}")


def discriminator_filters(config: GeneratorConfig) -> dict[str, float]:
    """A discriminator's resampling filters, with their sums."""
    places = [f"b{config.resolution}.fromrgb", "b4.conv"]
    for block in discriminator_blocks(config):
        places += [f"b{block.resolution}{name}" for name in ("", ".conv0", ".conv1", ".skip")]
    return {f"{place}.resample_filter": 1.0 for place in places}


# ---------------------------------------------------------------- settings


def _require(network: Module) -> None:
    """Raise ValueError for a module whose attributes mean another arithmetic than ours."""
    for place, module in network.walk():
        required = dict(REQUIRED.get(module.class_name, {}))
        parent, _, name = place.rpartition(".")
        if parent == "mapping" and name.startswith("fc"):
            required |= {"activation": "lrelu", "bias_gain": MAPPING_LR}
        if module.class_name == "Conv2dLayer":
            required |= {"activation": "linear" if name == SKIP else "lrelu"}
        for attribute, expected in required.items():
            found = module.attributes.get(attribute, expected)
            if found != expected:
                raise ValueError(f"{place}: found {attribute} {described(found)}, expected {expected!r}")


def _clamp(network: Module, classes: tuple[str, ...]) -> float | None:
    """The clamp of all convolutions but the discriminator's skips. Raises ValueError where they differ or don't say."""
    modules = [m for place, m in network.walk() if m.class_name in classes and place.rpartition(".")[2] != SKIP]
    found = {_number(module.attributes.get("conv_clamp", "none recorded")) for module in modules}
    if len(found) != 1:
        raise ValueError(f"found {len(found)} different values of conv_clamp, expected one for all convolutions")
    return found.pop()


def _number(value: Any) -> float | None:
    if value is None or type(value) in (int, float):
        return value
    raise ValueError(f"conv_clamp: found {described(value)}, expected a number or none")


def _plain(value: Any, depth: int = 0) -> dict[str, Any]:
    """The numbers, texts and dictionaries of settings; whatever else a file holds there is left out."""
    kept: dict[str, Any] = {}
    for name, item in (as_dict(value) or {}).items():
        if item is None or type(item) in (bool, int, float, str):
            kept[name] = item
        elif depth < 4 and as_dict(item) is not None:
            kept[name] = _plain(item, depth + 1)
    return kept
