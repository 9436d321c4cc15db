"""Transfer learning: a run that starts from the networks of a generator file (ADA, section 4.3)."""

from dataclasses import asdict
from pathlib import Path

import torch
import torch.nn.functional as F

from generator.files import discriminator_beside, load_discriminator
from generator.loading import OpenedGenerator
from training.losses import path_lengths
from training.spectral import plain_copy, take_over
from training.state import TrainingState


def start_from(state: TrainingState, opened: OpenedGenerator) -> None:
    """Take over G, also as its average, and D where its file lies beside G's, or the checkpoint holds one.

    Raises ValueError for a generator of another configuration, but for a clamp that the run adds, a file that is
    damaged or doesn't fit, or where D is to be frozen and there is none.
    """
    path, parent = opened.path, opened.generator
    found, expected = asdict(parent.config), asdict(state.config.network)
    added = {"clamp"} if parent.config.clamp is None else set()
    different = [name for name in expected if found[name] != expected[name] and name not in added]
    if different:
        found_text, expected_text = (", ".join(f"{n} {of[n]}" for n in different) for of in (found, expected))
        raise ValueError(f"{path}: found a generator with {found_text}, expected {expected_text}")
    take_over(state.G, parent.state_dict())
    state.G_ema.load_state_dict(plain_copy(state.G).state_dict())
    D = plain_copy(state.D)
    if discriminator_beside(path).exists():
        load_discriminator(discriminator_beside(path), D)
        take_over(state.D, D.state_dict())
    elif opened.discriminator:
        _require_same_shape(opened.discriminator.state_dict(), D, path)
        take_over(state.D, opened.discriminator.state_dict())
    elif state.config.freeze_d:
        beside = discriminator_beside(path).name
        raise ValueError(f"--freeze-d: found no discriminator in {path} or beside it, expected {beside}")
    if state.config.path_length:
        state.path_length_mean.copy_(_mean_path_length(state))


def _require_same_shape(found: dict[str, torch.Tensor], D: torch.nn.Module, path: Path) -> None:
    """Raise ValueError where the tensors of a foreign checkpoint's D have other names or shapes."""
    expected = {name: tensor.shape for name, tensor in D.state_dict().items()}
    for name in sorted(expected.keys() | found.keys()):
        if name not in found or name not in expected or found[name].shape != expected[name]:
            raise ValueError(f"{path}: found a discriminator that differs in {name}, expected one of G's configuration")


def _mean_path_length(state: TrainingState) -> torch.Tensor:
    """What path length regularisation would have learned as its target, so that it doesn't pull towards 0 at first."""
    device = state.path_length_mean.device
    rng = torch.Generator(device).manual_seed(state.config.seed)
    z = torch.randn(16, state.G.z_dim, generator=rng, device=device)
    c = F.one_hot(torch.arange(16, device=device) % state.G.c_dim, state.G.c_dim).float() if state.G.c_dim else None
    ws = state.G.mapping(z, c)
    images = state.G.synthesis(ws, noise="random", generator=rng)
    return path_lengths(images, ws, torch.randn(images.shape, generator=rng, device=device)).mean().detach()
