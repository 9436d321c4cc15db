"""The state of a training run, and the checkpoint file that holds all of it."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from generator.discriminator import Discriminator
from generator.files import write_atomically
from generator.networks import Generator, build_discriminator
from training.config import TrainingConfig
from training.regularisers import Auxiliary
from training.schedules import lazy_adam
from training.spectral import normalise, plain_copy
from training.workers import Workers, split_into_groups

CHECKPOINT_FORMAT = "latentprint.checkpoint/2"


class TrainingState:
    """Networks, optimisers and running means; `step` counts what has been done.

    Randomness is no part of it: every step draws from (seed, step). Nor is this process's share of each batch, `parts`:
    a run goes on with another number of processes or parts.
    """

    def __init__(self, config: TrainingConfig, device: str | torch.device = "cpu", workers: Workers | None = None):
        self.config, self.workers = config, workers or Workers()
        self.parts = [rows.to(device) for rows in self._own_parts()]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.G = Generator(config.network).to(device)
            self.D = build_discriminator(config.network, config.mbstd_group_size, config.residual_d, label_layers=0).to(
                device
            )
            self.auxiliary = Auxiliary(config.regularise, self.D).to(device)
            for name, network in (("spectral-g", self.G), ("spectral-d", self.D)):
                if name in config.regularise:
                    normalise(network)
        self.G.synthesis.half_from = self.D.half_from = config.half_from
        self.G.to(memory_format=torch.channels_last)
        self.D.to(memory_format=torch.channels_last)
        freeze_highest(self.D, config.freeze_d)
        self.G_ema = plain_copy(self.G).eval().requires_grad_(False)
        self.opt_G = self._adam(config.path_length_interval if config.path_length else None, self.G)
        self.opt_D = self._adam(config.r1_interval if config.gamma else None, self.D, self.auxiliary)
        self.path_length_mean = torch.zeros([], device=device)
        self.p = 0.0  # strength of augmentation or regulariser, and the signs of D(real) since it was last adjusted
        self.signs: list[float] = []
        self.step = 0
        self.seconds = 0.0
        self.joules: dict[str, float | None] = {}  # by part of the machine; None where some of it is not known
        # figures of the steps since the last line of the log, and how long these steps took
        self.window: list[dict[str, float]] = []
        self.window_seconds = 0.0

    def _adam(self, interval: int | None, *networks: torch.nn.Module) -> torch.optim.Adam:
        settings = lazy_adam(self.config.lr, (0.0, 0.99), interval) if interval else None
        lr, betas = (settings.lr, settings.betas) if settings else (self.config.lr, (0.0, 0.99))
        trained = [p for network in networks for p in network.parameters() if p.requires_grad]
        return torch.optim.Adam(trained, lr=lr, betas=betas, eps=1e-8, fused=True)

    def _own_parts(self) -> list[torch.Tensor]:
        """The parts of a batch that this process takes, one after the other; each an index into the batch."""
        config, workers = self.config, self.workers
        count = workers.count * config.accumulate
        parts = split_into_groups(config.batch, config.mbstd_group_size, count)
        return parts[workers.rank * config.accumulate : (workers.rank + 1) * config.accumulate]

    def share_evenly(self, batch: int) -> list[torch.Tensor]:
        """This process's parts of a smaller batch that D never sees; some may be empty."""
        config, workers = self.config, self.workers
        images = torch.arange(batch, device=self.path_length_mean.device)
        parts = images.tensor_split(workers.count * config.accumulate)
        return list(parts[workers.rank * config.accumulate : (workers.rank + 1) * config.accumulate])

    def not_finite(self) -> str:
        """The name of a tensor that holds NaN or infinity, "" where there is none."""
        for part, record in self.state_dict().items():
            if isinstance(record, dict):
                for name, tensor in _tensors(record):
                    if tensor.is_floating_point() and not tensor.isfinite().all():
                        return f"{part}{name}"
        return ""

    @property
    def images(self) -> int:
        """Real images shown so far."""
        return self.step * self.config.batch

    @property
    def images_per_second(self) -> float:
        """Over the steps since the last line of the log; snapshots, checkpoints and judging don't count."""
        return len(self.window) * self.config.batch / max(self.window_seconds, 1e-9)

    def use(self, seconds: float, joules: dict[str, float | None]) -> None:
        """Book time and energy; an amount that is not known makes its sum unknown."""
        first = self.seconds == 0
        self.seconds += seconds
        for part in joules.keys() | self.joules.keys():
            before, used = self.joules.get(part, 0.0 if first else None), joules.get(part)
            self.joules[part] = None if before is None or used is None else before + used

    def state_dict(self) -> dict[str, Any]:
        """Everything that a later process needs to go on."""
        parts = {name: getattr(self, name).state_dict() for name in self._parts_with_state()}
        return parts | {
            "path_length_mean": self.path_length_mean,
            "p": self.p,
            "signs": self.signs,
            "step": self.step,
            "kimg": self.images / 1000,
            "seconds": self.seconds,
            "joules": self.joules,
            "window": self.window,
            "window_seconds": self.window_seconds,
        }

    def _parts_with_state(self) -> list[str]:
        auxiliary = ["auxiliary"] if self.auxiliary.state_dict() else []
        return ["G", "D", "G_ema", "opt_G", "opt_D", *auxiliary]

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a saved state."""
        for name in self._parts_with_state():
            getattr(self, name).load_state_dict(state[name])
        self.path_length_mean.copy_(state["path_length_mean"])
        self.p, self.signs = state["p"], list(state["signs"])
        self.step, self.seconds = state["step"], state["seconds"]
        # a checkpoint of before these were kept goes on with a shorter line and unknown energy
        found = state.get("joules")
        self.joules = dict(found) if isinstance(found, dict) else {"processor": found}
        self.window, self.window_seconds = list(state.get("window", ())), state.get("window_seconds", 0.0)


def _tensors(record: dict[Any, Any], prefix: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    for key, value in record.items():
        if isinstance(value, torch.Tensor):
            yield f"{prefix}.{key}", value
        elif isinstance(value, dict):
            yield from _tensors(value, f"{prefix}.{key}")


def freeze_highest(D: Discriminator, blocks: int) -> None:
    """Let the layers at D's highest resolutions, with fromRGB, stay as they are (Freeze-D; ADA, Appendix D.2)."""
    if blocks:
        for module in (D.from_rgb, *D.blocks[:blocks]):
            module.requires_grad_(False)


@contextmanager
def frozen(*networks: torch.nn.Module) -> Iterator[None]:
    """Spare the weight gradients of the networks that this loss does not train."""
    trained = [p for network in networks for p in network.parameters() if p.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


# What may differ between the first call and the one that resumes.
RESUMABLE = ("kimg", "snapshot_kimg", "accumulate")


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
    theirs = asdict(TrainingConfig()) | record["config"]  # a setting that did not exist then had its default's effect
    for name in sorted(ours.keys() - set(RESUMABLE)):
        if theirs[name] != ours[name]:
            raise ValueError(f"{path}: was made with {name} {theirs[name]}, found {ours[name]} now")
    if record["data_sha256"] != data_sha256:
        raise ValueError(
            f"{path}: was made with other images (SHA-256 {record['data_sha256'][:12]}, now {data_sha256[:12]})"
        )
    state.load_state_dict(record["state"])
