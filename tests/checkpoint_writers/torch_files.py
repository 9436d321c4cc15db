"""Checkpoints written by torch.save: rosinality, GenForce, MMGeneration, and bare state dicts."""

import argparse
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def write(path: Path, content: dict[str, Any], legacy: bool = False) -> Path:
    """legacy: the format of PyTorch before 1.6, which is no zip archive."""
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


def state_dict(tensors: dict[str, Tensor]) -> OrderedDict[str, Tensor]:
    """As Module.state_dict() gives it: with the versions of the modules as an attribute."""
    state = OrderedDict(tensors)
    state.__dict__["_metadata"] = OrderedDict({"": {"version": 1}})
    return state


def optimizer(tensors: dict[str, Tensor]) -> dict[str, Any]:
    """The state of Adam."""
    state = {i: {"step": 10, "exp_avg": t * 0, "exp_avg_sq": t * 0} for i, t in enumerate(tensors.values())}
    group = {"lr": 0.002, "betas": (0.0, 0.99), "eps": 1e-8, "weight_decay": 0, "params": list(range(len(tensors)))}
    return {"state": state, "param_groups": [group]}


def rosinality_trained(g_ema: dict, g: dict, d: dict) -> dict[str, Any]:
    """What the trainer writes: the options of its command line are an argparse.Namespace."""
    args = argparse.Namespace(
        path="lmdb", iter=800000, batch=16, size=16, r1=10.0, channel_multiplier=2, arch="stylegan2"
    )
    return {
        "g": state_dict(g),
        "d": state_dict(d),
        "g_ema": state_dict(g_ema),
        "g_optim": optimizer(g),
        "d_optim": optimizer(d),
        "args": args,
        "ada_aug_p": 0.1,
    }


def rosinality_converted(g_ema: dict, latent_avg: Tensor) -> dict[str, Any]:
    return {"g_ema": state_dict(g_ema), "latent_avg": latent_avg}


def genforce(smooth: dict, raw: dict, d: dict) -> dict[str, Any]:
    return {
        "generator": state_dict(raw),
        "generator_smooth": state_dict(smooth),
        "discriminator": state_dict(d),
    }


def mmgeneration(ema: dict, raw: dict, d: dict) -> dict[str, Any]:
    networks = {"generator": raw, "generator_ema": ema, "discriminator": d}
    tensors = {f"{network}.{name}": t for network, named in networks.items() for name, t in named.items()}
    return {"meta": {"iter": 10, "mmgen_version": "0.1.0", "hook_msgs": {}}, "state_dict": state_dict(tensors)}
