"""What a training run is: networks, optimisation and data settings."""

import math
from dataclasses import dataclass, field

import torch

from generator.networks import GeneratorConfig
from training.augment import CATEGORIES
from training.losses import LOSSES
from training.regularisers import ADAPTIVE, REGULARISERS

COUNTS = (
    "batch",
    "r1_interval",
    "path_length_interval",
    "path_length_shrink",
    "mbstd_group_size",
    "ada_interval",
    "accumulate",
    "half_resolutions",
)
# by name: of the feature maps, None for that of the weights
PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of one run; together with the data and the seed they determine the result.

    loss: "logistic", or, to compare with, "lsgan" or "wgan-gp" (whose penalty takes R1's place, at every step); neither
    has the zero that r_t is about, so neither takes adaptive augmentation.
    gamma: R1 weight. path_length: weight of the path length penalty, its y scaled by 1/r (0 turns it off).
    Intervals are in steps, half-lives in thousands of images (kimg). style_mixing: probability. precision: "fp32", or
    "bf16" or "fp16" for the feature maps (weights and the average stay fp32, and in fp16 R1 and path length), at the
    half_resolutions highest resolutions (ADA, Appendix D.1: 4; its formula there gives 5). fp16 needs a network with a
    clamp. Losses are not scaled: the paper says of none.
    augment: categories of the adaptive augmentation, () for none; its p seeks E[sign(D(real))] = ada_target, measured
    over ada_interval steps, and can rise from 0 to 1 in ada_kimg (ADA: 500, 100 for transfer).
    regularise: of ADA's comparison methods (Appendix D.2, with its weights); "pa-gan" and "dropout" take the place of
    augmentation: their strength is the p that seeks ada_target.
    warmup_kimg: how long D learns alone, for a G that starts trained against a D that doesn't. parent_sha256: of the
    generator file that the run starts from, "" for none. residual_d: the discriminator's skips (ADA leaves them out for
    CIFAR-10). freeze_d: so many of the discriminator's highest resolutions stay as they were (Freeze-D). accumulate:
    parts of a batch whose gradients are added up one after the other, to save memory; results agree up to rounding.
    """

    network: GeneratorConfig = field(default_factory=GeneratorConfig)
    batch: int = 32
    kimg: float = 25000
    loss: str = "logistic"
    lr: float = 0.002
    gamma: float = 10
    r1_interval: int = 16
    path_length: float = 2
    path_length_interval: int = 8
    path_length_shrink: int = 2
    path_length_decay: float = 0.01
    ema_kimg: float = 10
    ema_rampup: float = 0.05
    style_mixing: float = 0.9
    mbstd_group_size: int = 4
    residual_d: bool = True
    freeze_d: int = 0
    accumulate: int = 1
    x_flip: bool = False
    precision: str = "fp32"
    half_resolutions: int = 9  # all that there can be
    augment: tuple[str, ...] = ()
    regularise: tuple[str, ...] = ()
    ada_target: float = 0.6
    ada_interval: int = 4
    ada_kimg: float = 500
    warmup_kimg: float = 0
    parent_sha256: str = ""
    seed: int = 0
    snapshot_kimg: float = 10

    def __post_init__(self) -> None:
        for name in COUNTS:
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: found {getattr(self, name)}, expected at least 1")
        for name in ("kimg", "ada_kimg", "ema_kimg", "snapshot_kimg"):
            if not 0.001 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name}: found {getattr(self, name)}, expected at least 0.001 (one image)")
        for name in ("warmup_kimg", "seed", "lr", "gamma", "path_length"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name}: found {getattr(self, name)}, expected at least 0")
        blocks = self.network.resolution.bit_length() - 3
        if not 0 <= self.freeze_d <= blocks:
            raise ValueError(f"freeze_d: found {self.freeze_d}, expected 0 to {blocks}, the discriminator's blocks")
        unknown = [name for name in self.augment if name not in CATEGORIES]
        if unknown:
            raise ValueError(f"augment: found {unknown[0]!r}, expected some of {', '.join(CATEGORIES)}")
        if self.loss not in LOSSES:
            raise ValueError(f"loss: found {self.loss!r}, expected one of {', '.join(LOSSES)}")
        if self.loss != "logistic" and self.augment:
            raise ValueError(f"augment: found {','.join(self.augment)} with the loss {self.loss}, expected none")
        if self.loss == "wgan-gp" and (self.gamma or self.precision != "fp32"):
            found = f"{self.gamma:g} and {self.precision}"
            raise ValueError(
                f"gamma: found {found} with the loss wgan-gp, expected 0 and fp32 (it has its own penalty)"
            )
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision: found {self.precision!r}, expected one of {', '.join(PRECISIONS)}")
        if self.precision == "fp16" and self.network.clamp is None:
            raise ValueError("precision: found fp16 with a network without a clamp, expected one (ADA: 256)")
        self._check_regularisers()

    def _check_regularisers(self) -> None:
        found = set(self.regularise)
        unknown = [name for name in self.regularise if name not in REGULARISERS]
        if unknown:
            raise ValueError(f"regularise: found {unknown[0]!r}, expected some of {', '.join(REGULARISERS)}")
        adaptive = [*(name for name in ADAPTIVE if name in found), *(["augmentation"] if self.augment else [])]
        if len(adaptive) > 1:
            raise ValueError(f"regularise: found {' with '.join(adaptive)}, expected one that is adapted at a time")
        if found & set(ADAPTIVE) and self.loss != "logistic":
            raise ValueError(f"regularise: found {adaptive[0]} with the loss {self.loss}, expected logistic")
        turning = [name for name in ("blit", "geometry") if name in self.augment]
        if "rotation" in found and turning:
            raise ValueError(f"augment: found {turning[0]} with rotation, expected nothing that turns images itself")
        if "zcr" in found and self.precision == "fp16":
            raise ValueError("precision: found fp16 with zcr, expected fp32 or bf16 (its gradients vary too much)")

    @property
    def adaptive(self) -> bool:
        """Whether a strength p follows from what D says of real images."""
        return bool(self.augment) or any(name in ADAPTIVE for name in self.regularise)

    @property
    def dtype(self) -> torch.dtype | None:
        """What the feature maps of the main losses are computed in; None: as the weights."""
        return PRECISIONS[self.precision]

    @property
    def penalty_dtype(self) -> torch.dtype | None:
        """The same for R1 and path length: of their gradients up to a quarter would vanish in fp16.

        bf16 has fp32's range: it moved R1's gradient by 2 to 8 %, the path length penalty's by 3 to 22 %, an eighth of
        what they differ by from batch to batch and less (small-64 and ada-256 at 64x64, and a trained generator).
        """
        return torch.bfloat16 if self.precision == "bf16" else None

    @property
    def half_from(self) -> int:
        """The lowest resolution at which `dtype` counts."""
        return max(self.network.resolution >> (self.half_resolutions - 1), 4)
