"""The state of a training run, and the checkpoint file that holds all of it."""

import copy
import io
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from generator.files import write_atomically
from generator.networks import Generator, build_discriminator
from training.config import TrainingConfig
from training.schedules import lazy_adam

CHECKPOINT_FORMAT = "latentprint.checkpoint/2"


class TrainingState:
    """Networks, optimisers and running means; `step` counts what has been done.

    Randomness is no part of it: every step draws from (seed, step).
    """

    def __init__(self, config: TrainingConfig, device: str | torch.device = "cpu"):
        self.config = config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.G = Generator(config.network).to(device)
            self.D = build_discriminator(config.network, config.mbstd_group_size, config.residual_d, label_layers=0).to(
                device
            )
        self.G.to(memory_format=torch.channels_last)
        self.D.to(memory_format=torch.channels_last)
        self.G_ema = copy.deepcopy(self.G).eval().requires_grad_(False)
        self.opt_G = self._adam(self.G, config.path_length_interval if config.path_length else None)
        self.opt_D = self._adam(self.D, config.r1_interval if config.gamma else None)
        self.path_length_mean = torch.zeros([], device=device)
        self.p = 0.0  # strength of the augmentation, and the signs of D(real) since it was last adjusted
        self.signs: list[float] = []
        self.step = 0
        self.seconds = 0.0

    def _adam(self, network: torch.nn.Module, interval: int | None) -> torch.optim.Adam:
        settings = lazy_adam(self.config.lr, (0.0, 0.99), interval) if interval else None
        lr, betas = (settings.lr, settings.betas) if settings else (self.config.lr, (0.0, 0.99))
        return torch.optim.Adam(network.parameters(), lr=lr, betas=betas, eps=1e-8, fused=True)

    @property
    def images(self) -> int:
        """Real images shown so far."""
        return self.step * self.config.batch

    def state_dict(self) -> dict[str, Any]:
        """Everything that a later process needs to go on."""
        parts = {name: getattr(self, name).state_dict() for name in ("G", "D", "G_ema", "opt_G", "opt_D")}
        return parts | {
            "path_length_mean": self.path_length_mean,
            "p": self.p,
            "signs": self.signs,
            "step": self.step,
            "kimg": self.images / 1000,
            "seconds": self.seconds,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a saved state."""
        for name in ("G", "D", "G_ema", "opt_G", "opt_D"):
            getattr(self, name).load_state_dict(state[name])
        self.path_length_mean.copy_(state["path_length_mean"])
        self.p, self.signs = state["p"], list(state["signs"])
        self.step, self.seconds = state["step"], state["seconds"]


# What may differ between the first call and the one that resumes.
RESUMABLE = ("kimg", "snapshot_kimg")


def save_checkpoint(state: TrainingState, path: Path, data_sha256: str) -> None:
    """Write the state, its settings and the data's hash atomically."""
    buffer = io.BytesIO()
    record = {"format": CHECKPOINT_FORMAT, "config": asdict(state.config), "data_sha256": data_sha256}
    torch.save(record | {"state": state.state_dict()}, buffer)
    write_atomically(path, buffer.getvalue())


def load_checkpoint(state: TrainingState, path: Path, data_sha256: str) -> None:
    """Go on from a checkpoint. Raises ValueError where it was made with other settings or other data."""
    try:
        record = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # torch.load raises a different exception for every kind of damage
        raise ValueError(f"{path}: found no readable checkpoint ({type(error).__name__}: {error})") from error
    if not isinstance(record, dict) or record.get("format") != CHECKPOINT_FORMAT:
        raise ValueError(f"{path}: found another kind of file, expected a {CHECKPOINT_FORMAT} checkpoint")
    ours = asdict(state.config)
    for name in sorted(ours.keys() - set(RESUMABLE)):
        if record["config"].get(name) != ours[name]:
            raise ValueError(f"{path}: was made with {name} {record['config'].get(name)}, found {ours[name]} now")
    if record["data_sha256"] != data_sha256:
        raise ValueError(
            f"{path}: was made with other images (SHA-256 {record['data_sha256'][:12]}, now {data_sha256[:12]})"
        )
    state.load_state_dict(record["state"])
