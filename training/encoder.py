"""Training of the projection encoder on its generator's own samples: as many as one likes, labelled by construction."""

import io
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from math import cos, pi
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from generator.encoder import LARGEST_SIDE, Encoder, EncoderConfig, save_encoder
from generator.files import write_atomically
from generator.images import to_pixels, to_unit
from generator.loading import OpenedGenerator, open_generator
from generator.networks import Generator
from generator.sampling import derive_seed

STATISTICS_SAMPLES = 10_000
CHECKPOINT_SECONDS = 60
CHECKPOINT_FORMAT = "latentprint.encoder-checkpoint/1"
HELD_OUT = 512  # samples that only measure


@dataclass(frozen=True)
class EncoderTraining:
    """Settings of one training: thousands of samples, batch, the highest learning rate (a half cosine), seed.

    precision: "fp32", or "bf16" for feature maps and convolutions. Raises ValueError that names the setting.
    """

    kimg: float = 200
    batch: int = 32
    lr: float = 0.002
    precision: str = "fp32"
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.001 <= self.kimg <= 1e6:
            raise ValueError(f"kimg: found {self.kimg}, expected 0.001 (one image) to 1000000")
        if not 1 <= self.batch <= 4096:
            raise ValueError(f"batch: found {self.batch}, expected 1 to 4096")
        if self.precision not in ("fp32", "bf16"):
            raise ValueError(f"precision: found {self.precision!r}, expected fp32 or bf16")

    @property
    def steps(self) -> int:
        """Number of batches."""
        return max(1, round(self.kimg * 1000 / self.batch))

    def learning_rate(self, step: int) -> float:
        """Half a cosine from lr to 0."""
        return self.lr * (0.5 + 0.5 * cos(pi * step / self.steps))


@dataclass(frozen=True)
class EncoderProgress:
    """What the training reports after each step; loss: mean square error in units of w's deviations."""

    images: int
    total: int
    loss: float


def train_encoder(
    generator: Path,
    out: Path,
    settings: EncoderTraining,
    device: str = "cpu",
    on_progress: Callable[[EncoderProgress], None] = lambda progress: None,
) -> float:
    """Train an encoder for a generator file, write it to `out`; return its error on samples that it was not shown.

    The error is the mean square error of w in units of its coordinates' deviations: 1 is what mu_w alone reaches. A
    killed training goes on from the checkpoint beside `out`, which is removed at the end. Raises ValueError for a
    generator file that can't be read, or a checkpoint of other settings.
    """
    opened = open_generator(generator, device)
    run = _Training(opened, settings, device)
    checkpoint = out.with_name(f"{out.name}.checkpoint.pt")
    if checkpoint.exists():
        run.resume(checkpoint)
    saved = time.monotonic()
    total = settings.steps * settings.batch
    while run.step < settings.steps:
        loss = run.train_step()
        on_progress(EncoderProgress(run.step * settings.batch, total, loss))
        if time.monotonic() - saved > CHECKPOINT_SECONDS:
            run.save(checkpoint)
            saved = time.monotonic()
    error = run.held_out_error()
    record = {"trained_by": "latentprint train-encoder", "training": asdict(settings), "held_out_error": error}
    save_encoder(run.encoder, out, opened.sha256, record)
    checkpoint.unlink(missing_ok=True)
    return error


class _Training:
    """Encoder, optimiser and step; every step draws from (seed, step)."""

    def __init__(self, opened: OpenedGenerator, settings: EncoderTraining, device: str):
        self.G, self.settings, self.device = opened.generator, settings, device
        self.sha256, self.step = opened.sha256, 0
        config = EncoderConfig(self.G.w_dim, min(self.G.resolution, LARGEST_SIDE))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.encoder = Encoder(config).to(device).to(memory_format=torch.channels_last)
        w = _sample_w(self.G, STATISTICS_SAMPLES, torch.Generator(device).manual_seed(0))
        self.encoder.w_mean.copy_(w.mean(0))
        self.encoder.w_deviation.copy_(w.std(0).clamp(min=1e-8))
        self.adam = torch.optim.Adam(self.encoder.parameters(), lr=settings.lr, betas=(0.9, 0.99), fused=True)
        self.working = torch.bfloat16 if settings.precision == "bf16" else None

    def train_step(self) -> float:
        """One batch; returns its loss."""
        rng = torch.Generator(self.device).manual_seed(derive_seed("encoder", self.settings.seed, self.step))
        images, wanted = self._samples(self.settings.batch, rng, self.working)
        loss = F.mse_loss(self.encoder.standardized(images, self.working), wanted)
        self.adam.zero_grad(set_to_none=True)
        loss.backward()
        self.adam.param_groups[0]["lr"] = self.settings.learning_rate(self.step)
        self.adam.step()
        self.step += 1
        return loss.item()

    @torch.no_grad()
    def _samples(self, count: int, rng: torch.Generator, dtype: torch.dtype | None) -> tuple[Tensor, Tensor]:
        """Images of the generator through 8 bits, as suspects come, and their standardised w."""
        w = _sample_w(self.G, count, rng)
        images = to_unit(to_pixels(self.G.synthesis(w, noise="random", generator=rng, dtype=dtype))).to(self.device)
        return images, (w - self.encoder.w_mean) / self.encoder.w_deviation

    @torch.no_grad()
    def held_out_error(self) -> float:
        """Mean square error, in units of w's deviations, on samples of a seed of their own, in float32."""
        rng = torch.Generator(self.device).manual_seed(derive_seed("encoder held out", self.settings.seed))
        errors = []
        for _ in range(0, HELD_OUT, 32):
            images, wanted = self._samples(32, rng, None)
            errors.append(F.mse_loss(self.encoder.standardized(images), wanted).item())
        return sum(errors) / len(errors)

    def save(self, path: Path) -> None:
        """Write a checkpoint atomically."""
        buffer = io.BytesIO()
        record = {"format": CHECKPOINT_FORMAT, "settings": asdict(self.settings), "generator_sha256": self.sha256}
        state = {"encoder": self.encoder.state_dict(), "adam": self.adam.state_dict(), "step": self.step}
        torch.save(record | state, buffer)
        write_atomically(path, buffer.getvalue())

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint. Raises ValueError where it was made with other settings or another generator."""
        try:
            record = torch.load(path, weights_only=True, map_location="cpu")
            format_name = record["format"]
        except Exception as error:  # torch.load raises a different exception for every kind of damage
            raise ValueError(f"{path}: found no readable checkpoint ({type(error).__name__}: {error})") from error
        if format_name != CHECKPOINT_FORMAT:
            raise ValueError(f"{path}: found a checkpoint {format_name!r}, expected {CHECKPOINT_FORMAT!r}")
        if record["settings"] != asdict(self.settings) or record["generator_sha256"] != self.sha256:
            raise ValueError(f"{path}: found other settings or another generator; remove it to begin anew")
        self.encoder.load_state_dict(record["encoder"])
        self.adam.load_state_dict(record["adam"])
        self.step = record["step"]


@torch.no_grad()
def _sample_w(G: Generator, count: int, rng: torch.Generator) -> Tensor:
    """w of random latent codes [count, w_dim], of labels drawn uniformly where G is conditional."""
    z = torch.randn(count, G.z_dim, generator=rng, device=rng.device)
    c = None
    if G.c_dim:
        c = F.one_hot(torch.randint(G.c_dim, [count], generator=rng, device=rng.device), G.c_dim).to(z)
    return G.mapping.map(z, c)
