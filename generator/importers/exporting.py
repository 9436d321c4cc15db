"""Our generators as plain state dicts of other tools, so that their users can check us."""

import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cuda_ops import setup_filter
from generator.discriminator import Discriminator
from generator.files import write_atomically
from generator.importers import ada_pytorch, rosinality
from generator.importers.matching import Rule
from generator.layers import RESAMPLING_TAPS
from generator.networks import Generator, GeneratorConfig

FORMATS = ("rosinality", "ada-pytorch-state")


def export_checkpoint(
    generator: Generator, path: str | Path, to: str, discriminator: Discriminator | None = None
) -> None:
    """Write a torch file of plain state dicts, atomically. to: "rosinality" or "ada-pytorch-state".

    Raises ValueError for another format, or a network that the format can't hold.
    """
    if to not in FORMATS:
        raise ValueError(f"--to: found {to!r}, expected {' or '.join(FORMATS)}")
    entries = (_rosinality if to == "rosinality" else _ada_pytorch)(generator, discriminator)
    data = io.BytesIO()
    torch.save(entries, data)
    write_atomically(path, data.getvalue())


def _foreign(network: nn.Module, rules: Iterable[Rule], filters: Mapping[str, float]) -> dict[str, Tensor]:
    """A network's tensors under foreign names, with the resampling filters that the format stores."""
    ours = network.state_dict()
    taps = setup_filter(RESAMPLING_TAPS)
    tensors = {rule.theirs: rule.conversion.to_theirs(ours[rule.ours]).detach().cpu().contiguous() for rule in rules}
    return tensors | {name: torch.outer(taps, taps) * gain for name, gain in filters.items()}


def _rosinality(G: Generator, D: Discriminator | None) -> dict[str, Any]:
    config = G.config
    if config.c_dim or config.clamp is not None or config.z_dim != config.w_dim:
        raise ValueError(
            f"--to rosinality: found c_dim {config.c_dim}, clamp {config.clamp}, z_dim {config.z_dim} and w_dim "
            f"{config.w_dim}, expected no labels, no clamp and z_dim equal to w_dim: the format has nothing else"
        )
    if D is not None and (D.clamp is not None or D.mbstd_group_size != 4):
        raise ValueError(
            f"--to rosinality: found a discriminator with clamp {D.clamp} and groups of {D.mbstd_group_size}, "
            "expected no clamp and groups of 4: the format has nothing else"
        )
    state = _foreign(G, rosinality.generator_rules(config), rosinality.generator_filters(config))
    entries: dict[str, Any] = {"latent_avg": state.pop("latent_avg"), "g_ema": state}
    if D is not None:
        own = _foreign(D, rosinality.discriminator_rules(config), rosinality.discriminator_filters(config))
        entries["d"] = own
    return entries


def _ada_pytorch(G: Generator, D: Discriminator | None) -> dict[str, Any]:
    config = G.config
    rules, filters = ada_pytorch.generator_rules(config), ada_pytorch.generator_filters(config)
    entries: dict[str, Any] = {"G_ema": _foreign(G, rules, filters), "init_kwargs": _generator_kwargs(config)}
    if D is not None:
        layers = len(D.label_mapping.layers) if D.label_mapping is not None else 0
        d_rules = ada_pytorch.discriminator_rules(config, layers)
        entries["D"] = _foreign(D, d_rules, ada_pytorch.discriminator_filters(config))
        entries["D_init_kwargs"] = _discriminator_kwargs(config, D, layers)
    return entries


def _generator_kwargs(config: GeneratorConfig) -> dict[str, Any]:
    """What stylegan2-ada-pytorch's Generator takes."""
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
            "num_fp16_res": 0,
            "conv_clamp": config.clamp,
        },
    }


def _discriminator_kwargs(config: GeneratorConfig, D: Discriminator, layers: int) -> dict[str, Any]:
    return {
        "c_dim": config.c_dim,
        "img_resolution": config.resolution,
        "img_channels": 3,
        "channel_base": config.channel_base,
        "channel_max": config.channel_max,
        "num_fp16_res": 0,
        "conv_clamp": D.clamp,
        "mapping_kwargs": {"num_layers": layers},
        "epilogue_kwargs": {"mbstd_group_size": D.mbstd_group_size},
    }
