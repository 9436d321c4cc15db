"""MMGeneration and MMagic: one state dict with prefixes; arithmetic as rosinality's, other names.

Networks that they trained themselves make BGR images, converted official ones RGB; the file does not say which.
"""

from dataclasses import replace

from torch import Tensor

from generator.importers import rosinality
from generator.importers.containers import Container
from generator.importers.foreign import ForeignCheckpoint, ForeignDiscriminator, ForeignGenerator
from generator.importers.matching import Conversion, Rule, count, feature_map_rule, shape_of
from generator.importers.places import convolutions
from generator.importers.records import as_dict, state_dict
from generator.importers.stored_tensors import StoredTensor
from generator.networks import GeneratorConfig

FORMAT = "mmgeneration"
PREFIXES = {"ema": "generator_ema.", "raw": "generator."}
RGB_NOTE = "the file does not say whether its images are RGB or BGR: RGB was taken; --channel-order bgr reverses them"


def recognises(container: Container) -> bool:
    """Whether a checkpoint is of this format."""
    names = as_dict((as_dict(container.value) or {}).get("state_dict")) or {}
    return any(f"{prefix}constant_input.input" in names for prefix in PREFIXES.values())


def read(container: Container, which: str, channel_order: str) -> ForeignCheckpoint:
    """Settings, inferred from shapes, and tensors. Raises ValueError for a network of other parts."""
    tensors = state_dict((as_dict(container.value) or {})["state_dict"], container) or {}
    own = _below(tensors, PREFIXES[which])
    if not own:
        raise ValueError(f"found no {PREFIXES[which]}*, expected the network that --which {which} asks for")
    config = _config(own)
    rules = [_renamed(rule) for rule in rosinality.generator_rules(config) if rule.ours != "mapping.w_avg"]
    lacking = {"mapping.w_avg"}
    if not any(name.startswith("injected_noise_") for name in own):
        lacking |= {f"{conv.ours}.noise_const" for conv in convolutions(config)}
    rules = [rule for rule in rules if rule.ours not in lacking]
    filters = rosinality.generator_filters(config)
    found, discriminator = _below(tensors, "discriminator."), None
    d_rules = [_renamed(rule) for rule in rosinality.discriminator_rules(config)]
    if channel_order == "bgr":
        colours = (".to_rgb.weight", ".to_rgb.bias")
        rules = [_reversed(rule, 0) if rule.ours.endswith(colours) else rule for rule in rules]
        d_rules = [_reversed(rule, 1) if rule.ours == "from_rgb.weight" else rule for rule in d_rules]
    if found:
        discriminator = ForeignDiscriminator(found, tuple(d_rules), rosinality.discriminator_filters(config))
    generator = ForeignGenerator(config, own, tuple(rules), filters, frozenset(lacking))
    notes = (RGB_NOTE,) if channel_order == "rgb" else ()
    return ForeignCheckpoint(FORMAT, generator, discriminator, {"channel_order": channel_order}, notes)


def _below(tensors: dict[str, StoredTensor], prefix: str) -> dict[str, StoredTensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _config(tensors: dict[str, StoredTensor]) -> GeneratorConfig:
    channels = {4: shape_of(tensors, "conv1.conv.weight_orig", 5)[1]}
    for i in range(count(tensors, "convs.{}.conv.weight_orig") // 2):
        channels[8 << i] = shape_of(tensors, f"convs.{2 * i + 1}.conv.weight_orig", 5)[1]
    w_dim, z_dim = shape_of(tensors, "style_mapping.1.linear.weight_orig", 2)
    layers = count(tensors, "style_mapping.{}.linear.weight_orig", first=1)
    rule = feature_map_rule(channels)
    return GeneratorConfig(max(channels), z_dim=z_dim, w_dim=w_dim, mapping_layers=layers, **rule)


def _renamed(rule: Rule) -> Rule:
    """A rule of rosinality's names with this format's."""
    name = rule.theirs
    if name.startswith("style."):
        number, kind = name.split(".")[1:]
        name = f"style_mapping.{number}." + ("linear.weight_orig" if kind == "weight" else "bias")
    elif name.endswith("modulation.weight"):
        name = name.removesuffix("modulation.weight") + "style_modulation.linear.weight_orig"
    elif name.endswith("modulation.bias"):
        name = name.removesuffix("modulation.bias") + "style_modulation.bias"
    elif name.startswith("final_linear") and name.endswith("weight"):
        name = name.removesuffix("weight") + "linear.weight_orig"
    elif rule.ours.startswith(("from_rgb", "blocks", "conv.")) and name.endswith("weight"):
        name = name.removesuffix("weight") + "conv.weight_orig"
    elif name.endswith("conv.weight"):
        name = name.removesuffix("weight") + "weight_orig"
    elif name.endswith("noise.weight"):
        name = name.removesuffix("noise.weight") + "noise_injector.weight"
    elif name.startswith("noises.noise_"):
        name = name.replace("noises.noise_", "injected_noise_")
    elif name == "input.input":
        name = "constant_input.input"
    return replace(rule, theirs=name)


def _reversed(rule: Rule, axis: int) -> Rule:
    """The rule with the order of colours reversed."""
    before = rule.conversion

    def to_ours(tensor: Tensor) -> Tensor:
        return before.to_ours(tensor).flip(axis)

    def to_theirs(tensor: Tensor) -> Tensor:
        return before.to_theirs(tensor.flip(axis))

    return replace(rule, conversion=Conversion(to_ours, to_theirs))
