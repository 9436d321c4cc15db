"""Networks of this package as files of every foreign format."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from generator.discriminator import Discriminator
from generator.networks import Generator, GeneratorConfig, build_discriminator
from tests.checkpoint_writers import ada_pytorch, layouts, tensorflow, torch_files

TINY = GeneratorConfig(resolution=16, z_dim=6, w_dim=6, mapping_layers=2, channel_base=96, channel_max=20)
FORMATS = [
    "stylegan2-tensorflow",
    "stylegan2-ada-pytorch",
    "stylegan2-ada-pytorch-state",
    "rosinality",
    "genforce",
    "mmgeneration",
]


def varied_generator(config: GeneratorConfig = TINY, seed: int = 0) -> Generator:
    """A generator none of whose parts is at its trivial initial value."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        G = Generator(config).eval().requires_grad_(False)
        vary(G)
        G.mapping.w_avg.normal_()
    return G


def varied_discriminator(config: GeneratorConfig = TINY, seed: int = 0, mbstd_group_size: int = 4) -> Discriminator:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        D = build_discriminator(config, mbstd_group_size).eval().requires_grad_(False)
        vary(D)
    return D


def vary(network: torch.nn.Module) -> None:
    """Move what starts at zero or one away from it. The network is frozen."""
    for name, parameter in network.named_parameters():
        if name.endswith(("bias", "noise_strength")):
            parameter.add_(torch.randn(parameter.shape) / 2)


def ada_options(config: GeneratorConfig) -> dict[str, Any]:
    """The options that stylegan2-ada-pytorch's generator was made with."""
    return {
        "z_dim": config.z_dim,
        "c_dim": config.c_dim,
        "w_dim": config.w_dim,
        "img_resolution": config.resolution,
        "img_channels": 3,
        "mapping_kwargs": {"num_layers": config.mapping_layers},
        "synthesis_kwargs": {
            "channel_base": config.channel_base,
            "channel_max": config.channel_max,
            "num_fp16_res": 4,
            "conv_clamp": config.clamp,
        },
    }


def ada_discriminator_options(config: GeneratorConfig, mbstd_group_size: int = 4) -> dict[str, Any]:
    return {
        "c_dim": config.c_dim,
        "img_resolution": config.resolution,
        "img_channels": 3,
        "channel_base": config.channel_base,
        "channel_max": config.channel_max,
        "conv_clamp": config.clamp,
        "epilogue_kwargs": {"mbstd_group_size": mbstd_group_size},
    }


def tensorflow_kwargs(config: GeneratorConfig) -> dict[str, Any]:
    return {
        "num_channels": 3,
        "resolution": config.resolution,
        "label_size": config.c_dim,
        "fmap_base": config.channel_base // 2,
        "fmap_max": config.channel_max,
        "latent_size": config.z_dim,
        "dlatent_size": config.w_dim,
        "mapping_layers": config.mapping_layers,
        "mapping_fmaps": config.w_dim,
    }


def foreign_tensors(file_format: str, ema: Generator, raw: Generator, D: Discriminator) -> dict[str, dict[str, Any]]:
    """ema, raw and d: each a dict of the format's names."""
    named: dict[str, tuple[Callable[[Generator], dict], Callable[[Discriminator], dict]]] = {
        "stylegan2-tensorflow": (layouts.tensorflow_generator, layouts.tensorflow_discriminator),
        "stylegan2-ada-pytorch": (layouts.ada_generator, layouts.ada_discriminator),
        "stylegan2-ada-pytorch-state": (layouts.ada_generator, layouts.ada_discriminator),
        "rosinality": (layouts.rosinality_generator, layouts.rosinality_discriminator),
        "genforce": (layouts.genforce_generator, layouts.genforce_discriminator),
        "mmgeneration": (layouts.mmgeneration_generator, layouts.mmgeneration_discriminator),
    }
    generator, discriminator = named[file_format]
    return {"ema": generator(ema), "raw": generator(raw), "d": discriminator(D)}


def write_tensors(path: Path, file_format: str, tensors: dict[str, dict], config: GeneratorConfig, group: int) -> Path:
    """A checkpoint of these tensors, made with these settings."""
    ema, raw, d = tensors["ema"], tensors["raw"], tensors["d"]
    if file_format == "stylegan2-tensorflow":
        kwargs = tensorflow_kwargs(config)
        G, Gs = (tensorflow.network(named, kwargs) for named in (raw, ema))
        D = tensorflow.network(d, kwargs | {"mbstd_group_size": group}, "D_stylegan2")
        path.write_bytes(tensorflow.snapshot(Gs, D, G))
    elif file_format == "stylegan2-ada-pytorch":
        G_ema, G = (ada_pytorch.generator(named, ada_options(config)) for named in (ema, raw))
        D = ada_pytorch.discriminator(d, ada_discriminator_options(config, group))
        path.write_bytes(ada_pytorch.snapshot(G_ema, G, D))
    elif file_format == "stylegan2-ada-pytorch-state":
        options = {"init_kwargs": ada_options(config), "D_init_kwargs": ada_discriminator_options(config, group)}
        torch_files.write(path, {"G_ema": ema, "G": raw, "D": d} | options)
    elif file_format == "rosinality":
        torch_files.write(path, torch_files.rosinality_trained(ema, raw, d))
    elif file_format == "genforce":
        torch_files.write(path, torch_files.genforce(ema, raw, d))
    else:
        torch_files.write(path, torch_files.mmgeneration(ema, raw, d))
    return path


def write_checkpoint(
    path: Path, file_format: str, ema: Generator, raw: Generator | None = None, D: Discriminator | None = None
) -> Path:
    """A checkpoint of these networks: without the others, of other random ones."""
    config = ema.config
    raw = raw or varied_generator(config, seed=1)
    D = D or varied_discriminator(config, seed=2)
    tensors = foreign_tensors(file_format, ema, raw, D)
    return write_tensors(path, file_format, tensors, config, D.mbstd_group_size)
