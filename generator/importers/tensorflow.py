"""NVIDIA's TensorFlow pickles of StyleGAN2: a tuple (G, D, Gs) of networks with their variables; no TensorFlow needed.

Convolutions are stored height, width, in, out; those that upsample also flipped; style biases without their 1.
"""

from collections.abc import Iterator
from typing import Any

from generator.importers.containers import Container
from generator.importers.foreign import ForeignCheckpoint, ForeignDiscriminator, ForeignGenerator, only_rgb
from generator.importers.matching import (
    BATCHED,
    FROM_ZERO,
    HWIO,
    HWIO_FLIPPED,
    NOISE_MAP,
    SAME,
    TRANSPOSED,
    Conversion,
    Rule,
    count,
    feature_map_rule,
    shape_of,
)
from generator.importers.pickled import Call, Global, described
from generator.importers.places import convolutions, discriminator_blocks, rgb_layers
from generator.importers.records import as_dict
from generator.importers.stored_tensors import StoredTensor, stored_tensor
from generator.networks import GeneratorConfig

FORMAT = "stylegan2-tensorflow"
NETWORK_CLASS = "Network"
PLACES = {"raw": 0, "discriminator": 1, "ema": 2}
DEEPEST_COMPONENT = 4

# Settings that change the arithmetic, and the values that ours has; a network that doesn't mention one has the default.
REQUIRED: dict[str, tuple[Any, ...]] = {
    "nonlinearity": ("lrelu",),
    "mapping_nonlinearity": ("lrelu",),
    "mapping_lrmul": (0.01,),
    "normalize_latents": (True,),
    "resample_kernel": ([1, 3, 3, 1], None),
    "fmap_decay": (1.0,),
    "num_channels": (3,),
}


def recognises(container: Container) -> bool:
    """Whether a checkpoint holds networks of NVIDIA's TensorFlow library, of StyleGAN2 or an older kind."""
    value = container.value
    return type(value) is tuple and len(value) == 3 and all(_is_network(item) for item in value)


def read(container: Container, which: str, channel_order: str) -> ForeignCheckpoint:
    """Settings and tensors. Raises ValueError for an older architecture, or settings that our networks don't have."""
    only_rgb(channel_order, FORMAT)
    settings, tensors = _network(container.value[PLACES[which]], container)
    _refuse_older(tensors)
    _require(settings, "skip")
    config = _config(tensors, settings)
    generator = ForeignGenerator(config, tensors, tuple(generator_rules(config)))
    notes: tuple[str, ...] = ()
    discriminator = None
    try:
        discriminator = _discriminator(*_network(container.value[PLACES["discriminator"]], container), config)
    except ValueError as error:
        notes = (f"the discriminator was left out: {error}",)
    return ForeignCheckpoint(FORMAT, generator, discriminator, settings, notes)


def _is_network(value: Any) -> bool:
    named = value.args[0] if isinstance(value, Call) and value.args else getattr(value, "callee", None)
    return any(
        isinstance(item, Global) and item.name == NETWORK_CLASS and item.module.endswith(("network", "tfutil"))
        for item in (named, getattr(value, "callee", None))
    )


def _network(value: Any, container: Container, depth: int = 0) -> tuple[dict[str, Any], dict[str, StoredTensor]]:
    """(static settings, variables by name) of a network and its components, whose names are prefixed."""
    state = as_dict(value.state[0]) if isinstance(value, Call) and len(value.state) == 1 else None
    if state is None or depth > DEEPEST_COMPONENT:
        raise ValueError("found a network without its state, expected variables and settings")
    settings = {
        name: item
        for name, item in (as_dict(state.get("static_kwargs")) or {}).items()
        if item is None or type(item) in (bool, int, float, str) or (type(item) is list and len(item) <= 16)
    }
    tensors: dict[str, StoredTensor] = {}
    variables = state.get("variables")
    for pair in variables if type(variables) is list else []:
        if type(pair) not in (tuple, list) or len(pair) != 2 or type(pair[0]) is not str:
            raise ValueError("found a variable of another form than (name, array)")
        tensor = stored_tensor(pair[1], container)
        if tensor is None:
            raise ValueError(f"variable {described(pair[0])} is no array")
        tensors[pair[0]] = tensor
    for name, component in (as_dict(state.get("components")) or {}).items():
        inner_settings, inner = _network(component, container, depth + 1)
        settings = inner_settings | settings
        tensors |= {f"{name}/{variable}": tensor for variable, tensor in inner.items()}
    return settings, tensors


def _refuse_older(tensors: dict[str, StoredTensor]) -> None:
    """Raise ValueError, by name, for the other networks that come in the same container."""
    names = tensors.keys()
    kind, need = None, ""
    if any("/StyleMod/" in name for name in names):
        kind, need = "a StyleGAN (2018)", "its synthesis network with AdaIN"
    elif not any(name.startswith("synthesis/") for name in names):
        kind, need = "a Progressive GAN (2017)", "its generator without a mapping network"
    elif "mapping/LabelConcat/weight" in names:
        kind, need = "a conditional StyleGAN2 (2019)", "its normalisation of latent code and label together"
    elif any("ToRGB_lod" in name for name in names) or "synthesis/8x8/ToRGB/weight" not in names:
        kind, need = "a StyleGAN2 configuration A-D or residual", "a synthesis network without output skips"
    if kind:
        raise ValueError(f"found {kind} network, expected StyleGAN2 with output skips (E, F): {need} would be needed")


def _require(settings: dict[str, Any], architecture: str) -> None:
    for name, allowed in (REQUIRED | {"architecture": (architecture,)}).items():
        if name in settings and settings[name] not in allowed:
            raise ValueError(f"{name}: found {described(settings[name])}, expected {allowed[0]!r}")


def _config(tensors: dict[str, StoredTensor], settings: dict[str, Any]) -> GeneratorConfig:
    resolutions = [2**i for i in range(3, 11) if f"synthesis/{2**i}x{2**i}/Conv1/weight" in tensors]
    channels = {4: shape_of(tensors, "synthesis/4x4/Conv/weight", 4)[3]}
    channels |= {r: shape_of(tensors, f"synthesis/{r}x{r}/Conv1/weight", 4)[3] for r in resolutions}
    first, w_dim = shape_of(tensors, "mapping/Dense0/weight", 2)
    layers = count(tensors, "mapping/Dense{}/weight")
    label = "mapping/LabelEmbed/weight"
    c_dim = shape_of(tensors, label, 2)[0] if label in tensors else 0
    return GeneratorConfig(
        resolution=max(channels),
        z_dim=first - w_dim if c_dim else first,
        c_dim=c_dim,
        w_dim=w_dim,
        mapping_layers=layers,
        clamp=settings.get("conv_clamp"),
        **feature_map_rule(channels),
    )


def _both(ours: str, theirs: str, weight: Conversion) -> list[Rule]:
    return [Rule(f"{ours}.weight", f"{theirs}/weight", weight), Rule(f"{ours}.bias", f"{theirs}/bias")]


def _affine(ours: str, theirs: str) -> list[Rule]:
    return [
        Rule(f"{ours}.affine.weight", f"{theirs}/mod_weight", TRANSPOSED),
        Rule(f"{ours}.affine.bias", f"{theirs}/mod_bias", FROM_ZERO),
    ]


def generator_rules(config: GeneratorConfig) -> Iterator[Rule]:
    """Every variable of a generator."""
    yield Rule("mapping.w_avg", "dlatent_avg")
    for i in range(config.mapping_layers):
        yield from _both(f"mapping.layers.{i}", f"mapping/Dense{i}", TRANSPOSED)
    if config.c_dim:
        yield from _both("mapping.embed", "mapping/LabelEmbed", TRANSPOSED)
    yield Rule("synthesis.const", "synthesis/4x4/Const/const", BATCHED)
    for conv in convolutions(config):
        name = "Conv" if conv.resolution == 4 else ("Conv0_up", "Conv1")[conv.index]
        theirs = f"synthesis/{conv.resolution}x{conv.resolution}/{name}"
        yield from _both(conv.ours, theirs, HWIO_FLIPPED if conv.up else HWIO)
        yield from _affine(conv.ours, theirs)
        yield Rule(f"{conv.ours}.noise_strength", f"{theirs}/noise_strength", SAME)
        yield Rule(f"{conv.ours}.noise_const", f"synthesis/noise{conv.number}", NOISE_MAP)
    for rgb in rgb_layers(config):
        theirs = f"synthesis/{rgb.resolution}x{rgb.resolution}/ToRGB"
        yield from _both(rgb.ours, theirs, HWIO)
        yield from _affine(rgb.ours, theirs)


# ---------------------------------------------------------------- discriminator


def _discriminator(
    settings: dict[str, Any], tensors: dict[str, StoredTensor], config: GeneratorConfig
) -> ForeignDiscriminator:
    _require(settings, "resnet")
    if settings.get("mbstd_num_features", 1) != 1:
        raise ValueError(f"mbstd_num_features: found {described(settings['mbstd_num_features'])}, expected 1")
    group_size = settings.get("mbstd_group_size", 4)
    if type(group_size) is not int or group_size < 1:
        raise ValueError(f"mbstd_group_size: found {described(group_size)}, expected a whole number from 1")
    layers = count(tensors, "Mapping{}/weight")
    rules = tuple(discriminator_rules(config, layers))
    clamp = settings.get("conv_clamp")
    return ForeignDiscriminator(tensors, rules, group_size=group_size, clamp=clamp, label_layers=layers)


def discriminator_rules(config: GeneratorConfig, label_layers: int) -> Iterator[Rule]:
    """Every variable of a discriminator."""
    yield from _both("from_rgb", f"{config.resolution}x{config.resolution}/FromRGB", HWIO)
    for block in discriminator_blocks(config):
        theirs = f"{block.resolution}x{block.resolution}"
        yield from _both(f"{block.ours}.conv0", f"{theirs}/Conv0", HWIO)
        yield from _both(f"{block.ours}.conv1", f"{theirs}/Conv1_down", HWIO)
        yield Rule(f"{block.ours}.skip.weight", f"{theirs}/Skip/weight", HWIO)
    yield from _both("conv", "4x4/Conv", HWIO)
    yield from _both("fc", "4x4/Dense0", TRANSPOSED)
    yield from _both("out", "Output", TRANSPOSED)
    if config.c_dim:
        yield from _both("label_mapping.embed", "LabelEmbed", TRANSPOSED)
        for i in range(label_layers):
            yield from _both(f"label_mapping.layers.{i}", f"Mapping{i}", TRANSPOSED)
