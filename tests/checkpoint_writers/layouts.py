"""A network's tensors under the names, shapes and orders of axes of each foreign layout.

Each function takes one of this package's networks and gives a plain dict, as the foreign program would hold it.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from generator.discriminator import Discriminator, DiscriminatorBlock, EqualizedConv
from generator.layers import EqualizedLinear
from generator.mapping import MappingNetwork
from generator.networks import Generator
from generator.synthesis import SynthesisBlock, SynthesisLayer, ToRGB

TAPS = torch.tensor([1.0, 3, 3, 1])


def blocks(G: Generator) -> Iterator[tuple[int, list[SynthesisLayer], ToRGB]]:
    """(resolution, convolution layers, tRGB), coarse to fine."""
    for block in G.synthesis.blocks:
        assert isinstance(block, SynthesisBlock)
        yield block.resolution, [layer for layer in block.convs if isinstance(layer, SynthesisLayer)], block.to_rgb


def discriminator_blocks(D: Discriminator) -> list[DiscriminatorBlock]:
    """Fine to coarse."""
    return [block for block in D.blocks if isinstance(block, DiscriminatorBlock)]


def weight_bias(prefix: str, layer: EqualizedLinear | EqualizedConv) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {f"{prefix}.weight": layer.weight}
    return found if layer.bias is None else found | {f"{prefix}.bias": layer.bias}


def bias_of(conv: EqualizedConv) -> Tensor:
    assert conv.bias is not None  # every convolution has one but the skips
    return conv.bias


def mapping_layers(mapping: MappingNetwork) -> list[EqualizedLinear]:
    return [layer for layer in mapping.layers if isinstance(layer, EqualizedLinear)]


def resample_filter(gain: float = 1) -> Tensor:
    """[4, 4], of the sum `gain`: a tensor of its own for every layer, as the foreign programs have it."""
    return TAPS.outer(TAPS) * (gain / 64)


def plain(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach() for name, tensor in tensors.items()}


# ---------------------------------------------------------------- stylegan2-ada-pytorch


def ada_mapping(prefix: str, mapping: MappingNetwork) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {} if mapping.embed is None else weight_bias(f"{prefix}.embed", mapping.embed)
    for i, layer in enumerate(mapping_layers(mapping)):
        found |= weight_bias(f"{prefix}.fc{i}", layer)
    return found


def ada_generator(G: Generator) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {"synthesis.b4.const": G.synthesis.const}
    for r, layers, to_rgb in blocks(G):
        block = f"synthesis.b{r}"
        found[f"{block}.resample_filter"] = resample_filter()
        for number, layer in enumerate(layers, 2 - len(layers)):
            name = f"{block}.conv{number}"
            found |= {
                f"{name}.weight": layer.weight,
                f"{name}.noise_strength": layer.noise_strength,
                f"{name}.bias": layer.bias,
                f"{name}.resample_filter": resample_filter(),
                f"{name}.noise_const": layer.noise_const,
            }
            found |= weight_bias(f"{name}.affine", layer.affine)
        found |= {f"{block}.torgb.weight": to_rgb.weight, f"{block}.torgb.bias": to_rgb.bias}
        found |= weight_bias(f"{block}.torgb.affine", to_rgb.affine)
    return plain(found | ada_mapping("mapping", G.mapping) | {"mapping.w_avg": G.mapping.w_avg})


def ada_discriminator(D: Discriminator) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for i, block in enumerate(discriminator_blocks(D)):
        r = D.resolution >> i
        convs = {"conv0": block.conv0, "conv1": block.conv1, "skip": block.skip}
        for name, conv in (({"fromrgb": D.from_rgb} if i == 0 else {}) | convs).items():
            found |= weight_bias(f"b{r}.{name}", conv) | {f"b{r}.{name}.resample_filter": resample_filter()}
        found[f"b{r}.resample_filter"] = resample_filter()
    found |= weight_bias("b4.conv", D.conv) | {"b4.conv.resample_filter": resample_filter()}
    found |= weight_bias("b4.fc", D.fc) | weight_bias("b4.out", D.out)
    return plain(found | ({} if D.label_mapping is None else ada_mapping("mapping", D.label_mapping)))


# ---------------------------------------------------------------- rosinality and MMGeneration


def rosinality_generator(G: Generator) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {"input.input": G.synthesis.const[None]}
    for i, dense in enumerate(mapping_layers(G.mapping), 1):
        found |= weight_bias(f"style.{i}", dense)
    for k, (r, layers, to_rgb) in enumerate(blocks(G)):
        for j, layer in enumerate(layers):
            name = "conv1" if r == 4 else f"convs.{2 * k - 2 + j}"
            found[f"{name}.conv.weight"] = layer.weight[None]
            found |= weight_bias(f"{name}.conv.modulation", layer.affine)
            found |= {f"{name}.noise.weight": layer.noise_strength.reshape(1), f"{name}.activate.bias": layer.bias}
            if layer.up:
                found[f"{name}.conv.blur.kernel"] = resample_filter(4)
            found[f"noises.noise_{0 if r == 4 else 2 * k - 1 + j}"] = layer.noise_const[None, None]
        name = "to_rgb1" if r == 4 else f"to_rgbs.{k - 1}"
        found |= {f"{name}.conv.weight": to_rgb.weight[None], f"{name}.bias": to_rgb.bias.reshape(1, 3, 1, 1)}
        found |= weight_bias(f"{name}.conv.modulation", to_rgb.affine)
        if r > 4:
            found[f"{name}.upsample.kernel"] = resample_filter(4)
    return plain(found)


def rosinality_discriminator(D: Discriminator) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {"convs.0.0.weight": D.from_rgb.weight, "convs.0.1.bias": bias_of(D.from_rgb)}
    for i, block in enumerate(discriminator_blocks(D), 1):
        found |= {
            f"convs.{i}.conv1.0.weight": block.conv0.weight,
            f"convs.{i}.conv1.1.bias": bias_of(block.conv0),
            f"convs.{i}.conv2.0.kernel": resample_filter(),
            f"convs.{i}.conv2.1.weight": block.conv1.weight,
            f"convs.{i}.conv2.2.bias": bias_of(block.conv1),
            f"convs.{i}.skip.0.kernel": resample_filter(),
            f"convs.{i}.skip.1.weight": block.skip.weight,
        }
    found |= {"final_conv.0.weight": D.conv.weight, "final_conv.1.bias": bias_of(D.conv)}
    return plain(found | weight_bias("final_linear.0", D.fc) | weight_bias("final_linear.1", D.out))


def mmgeneration_generator(G: Generator) -> dict[str, Tensor]:
    """The same arithmetic as rosinality's; each equalized weight has a module of its own and the suffix _orig."""
    found: dict[str, Tensor] = {}
    for name, tensor in rosinality_generator(G).items():
        name = name.replace("input.input", "constant_input.input").replace("noises.noise_", "injected_noise_")
        name = name.replace("noise.weight", "noise_injector.weight")
        if name.startswith("style."):
            name = "style_mapping." + name.removeprefix("style.").replace(".weight", ".linear.weight_orig")
        name = name.replace("modulation.weight", "style_modulation.linear.weight_orig")
        name = name.replace("modulation.bias", "style_modulation.bias").replace("conv.weight", "conv.weight_orig")
        found[name] = tensor
    return found


def mmgeneration_discriminator(D: Discriminator) -> dict[str, Tensor]:
    module = {"final_linear.0": "linear", "final_linear.1": "linear"}
    return {
        f"{name.removesuffix('.weight')}.{module.get(name.removesuffix('.weight'), 'conv')}.weight_orig"
        if name.endswith(".weight")
        else name: tensor
        for name, tensor in rosinality_discriminator(D).items()
    }


# ---------------------------------------------------------------- GenForce


def genforce_generator(G: Generator) -> dict[str, Tensor]:
    """Up-convolutions turned by half a turn, styles without their + 1."""
    found: dict[str, Tensor] = {
        "truncation.w_avg": G.mapping.w_avg,
        "synthesis.early_layer.const": G.synthesis.const[None],
        "synthesis.upsample.kernel": resample_filter(4)[None, None],
    }
    for i, dense in enumerate(mapping_layers(G.mapping)):
        found |= weight_bias(f"mapping.dense{i}", dense)
    for k, (r, layers, to_rgb) in enumerate(blocks(G)):
        for j, conv in enumerate(layers):
            name = f"synthesis.layer{0 if r == 4 else 2 * k - 1 + j}"
            found |= {
                f"{name}.weight": conv.weight.flip(2, 3) if conv.up else conv.weight,
                f"{name}.bias": conv.bias,
                f"{name}.noise_strength": conv.noise_strength,
                f"{name}.noise": conv.noise_const[None, None],
                f"{name}.style.weight": conv.affine.weight,
                f"{name}.style.bias": conv.affine.bias - 1,
            }
            if conv.up:
                found[f"{name}.filter.kernel"] = resample_filter(4)[None, None]
        name = f"synthesis.output{k}"
        found |= {
            f"{name}.weight": to_rgb.weight,
            f"{name}.bias": to_rgb.bias,
            f"{name}.style.weight": to_rgb.affine.weight,
            f"{name}.style.bias": to_rgb.affine.bias - 1,
        }
    return plain(found)


def genforce_discriminator(D: Discriminator) -> dict[str, Tensor]:
    found: dict[str, Tensor] = weight_bias("input0", D.from_rgb)
    for i, block in enumerate(discriminator_blocks(D)):
        found |= weight_bias(f"layer{2 * i}", block.conv0) | weight_bias(f"layer{2 * i + 1}", block.conv1)
        found |= weight_bias(f"skip_layer{i}", block.skip)
        found |= {
            f"{name}.filter.kernel": resample_filter()[None, None] for name in (f"layer{2 * i + 1}", f"skip_layer{i}")
        }
    last = 2 * len(D.blocks)
    found |= weight_bias(f"layer{last}", D.conv) | weight_bias(f"layer{last + 1}", D.fc)
    return plain(found | weight_bias(f"layer{last + 2}", D.out))


# ---------------------------------------------------------------- TensorFlow


def tensorflow_dense(prefix: str, layer: EqualizedLinear) -> dict[str, Tensor]:
    return {f"{prefix}/weight": layer.weight.T, f"{prefix}/bias": layer.bias}


def tensorflow_modulated(prefix: str, layer: SynthesisLayer | ToRGB, turned: bool) -> dict[str, Tensor]:
    weight = layer.weight.flip(2, 3) if turned else layer.weight
    return {
        f"{prefix}/weight": weight.permute(2, 3, 1, 0),  # OIHW -> HWIO
        f"{prefix}/mod_weight": layer.affine.weight.T,
        f"{prefix}/mod_bias": layer.affine.bias - 1,
        f"{prefix}/bias": layer.bias,
    }


def arrays(tensors: dict[str, Tensor]) -> dict[str, np.ndarray]:
    return {name: tensor.detach().numpy().copy() for name, tensor in tensors.items()}


def tensorflow_generator(G: Generator) -> dict[str, np.ndarray]:
    """Names with their component in front."""
    found: dict[str, Tensor] = {"dlatent_avg": G.mapping.w_avg, "synthesis/4x4/Const/const": G.synthesis.const[None]}
    if G.mapping.embed is not None:
        found |= tensorflow_dense("mapping/LabelEmbed", G.mapping.embed)
    for i, dense in enumerate(mapping_layers(G.mapping)):
        found |= tensorflow_dense(f"mapping/Dense{i}", dense)
    for k, (r, layers, to_rgb) in enumerate(blocks(G)):
        size = f"synthesis/{r}x{r}"
        for j, layer in enumerate(layers):
            name = f"{size}/" + ("Conv" if r == 4 else "Conv0_up" if layer.up else "Conv1")
            found |= tensorflow_modulated(name, layer, turned=layer.up)
            found[f"{name}/noise_strength"] = layer.noise_strength
            found[f"synthesis/noise{0 if r == 4 else 2 * k - 1 + j}"] = layer.noise_const[None, None]
        found |= tensorflow_modulated(f"{size}/ToRGB", to_rgb, turned=False)
    return arrays(found)


def tensorflow_discriminator(D: Discriminator) -> dict[str, np.ndarray]:
    found: dict[str, Tensor] = {}
    for i, block in enumerate(discriminator_blocks(D)):
        size = f"{D.resolution >> i}x{D.resolution >> i}"
        convs = {"Conv0": block.conv0, "Conv1_down": block.conv1, "Skip": block.skip}
        for name, conv in (({"FromRGB": D.from_rgb} if i == 0 else {}) | convs).items():
            found |= tensorflow_conv(f"{size}/{name}", conv)
    found |= tensorflow_conv("4x4/Conv", D.conv) | tensorflow_dense("4x4/Dense0", D.fc)
    found |= tensorflow_dense("Output", D.out)
    if D.label_mapping is not None and D.label_mapping.embed is not None:
        found |= tensorflow_dense("LabelEmbed", D.label_mapping.embed)
        for i, dense in enumerate(mapping_layers(D.label_mapping)):
            found |= tensorflow_dense(f"Mapping{i}", dense)
    return arrays(found)


def tensorflow_conv(prefix: str, conv: EqualizedConv) -> dict[str, Tensor]:
    bias = {} if conv.bias is None else {f"{prefix}/bias": conv.bias}
    return {f"{prefix}/weight": conv.weight.permute(2, 3, 1, 0)} | bias
