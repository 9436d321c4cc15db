"""What a configuration costs, counted on networks without memory: parameters, arithmetic, bytes."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from generator.discriminator import Discriminator
from generator.files import WithoutMemory
from generator.networks import Generator, build_discriminator
from training.config import TrainingConfig
from training.losses import discriminator_loss, generator_loss, path_length_penalty, path_lengths, r1_penalty
from training.regularisers import BITS, Auxiliary, noisy_inputs, rotation_loss
from training.state import freeze_highest, frozen
from training.workers import split_into_groups

FLOAT = 4  # bytes


@dataclass(frozen=True)
class Estimate:
    """Costs of a run on one process.

    FLOPs: of convolutions and matrix products, two a multiply-add; resampling, augmentation, norms of weights and what
    works pixel by pixel are left out. flops_generate: of one image; flops_train: of a training step for one real image,
    its lazy regularisers averaged over the steps. state_bytes: weights, Adam's moments, the averaged generator and the
    gradients of the larger network. activation_bytes: what the backward pass of the heaviest phase keeps, as on a GPU;
    libraries' working memory and the training images are not in it. With accumulation it is that of one part of a
    batch.
    """

    generator_parameters: int
    discriminator_parameters: int
    flops_generate: int
    flops_train: int
    state_bytes: int
    activation_bytes: int


def estimate(config: TrainingConfig) -> Estimate:
    """Count what training with these settings takes. Nothing is computed, no memory is taken.

    Raises ValueError where the batch can't be divided as `accumulate` asks.
    """
    split_into_groups(config.batch, config.mbstd_group_size, config.accumulate)
    with WithoutMemory():
        G = Generator(config.network).to("meta")
        D = build_discriminator(config.network, config.mbstd_group_size, config.residual_d, label_layers=0).to("meta")
        auxiliary = Auxiliary(config.regularise, D).to("meta")
    freeze_highest(D, config.freeze_d)
    phases = _Phases(config, G, D, auxiliary)
    flops_generate, _ = _measured(phases.generate, G, D)
    costs = [(_measured(phase, G, D), every) for phase, every in phases.in_turn()]  # of one part of a batch
    weights_G, weights_D, more = (sum(p.numel() for p in network.parameters()) for network in (G, D, auxiliary))
    weights_D += more  # what a regulariser trains with D
    return Estimate(
        generator_parameters=weights_G,
        discriminator_parameters=weights_D,
        flops_generate=flops_generate // phases.batch,
        flops_train=round(sum(flops / every for (flops, _), every in costs) / phases.batch),
        state_bytes=FLOAT * (4 * weights_G + 3 * weights_D + max(weights_G, weights_D)),
        activation_bytes=max(kept for (_, kept), _ in costs),
    )


class _Phases:
    """The phases of a training step, as training/step.py has them, on what one backward pass takes of a batch."""

    def __init__(self, config: TrainingConfig, G: Generator, D: Discriminator, auxiliary: Auxiliary):
        self.config, self.G, self.D, self.auxiliary = config, G, D, auxiliary
        self.batch = config.batch // config.accumulate
        self.dtype = config.dtype
        G.synthesis.half_from = D.half_from = config.half_from

    def in_turn(self) -> list[tuple[Callable[[], object], int]]:
        """Each phase and how many steps pass from one run of it to the next."""
        config = self.config
        lazy = [(self.r1, config.r1_interval)] if config.gamma else []
        lazy += [(self.r1, 1)] if config.loss == "wgan-gp" else []  # its penalty takes the same derivatives
        lazy += [(self.path_length, config.path_length_interval)] if config.path_length else []
        return [(self.train_discriminator, 1), (self.train_generator, 1), *lazy]

    def labels(self, batch: int) -> Tensor | None:
        c_dim = self.config.network.c_dim
        return torch.empty(batch, c_dim, device="meta") if c_dim else None

    def images(self) -> Tensor:
        r = self.config.network.resolution
        return torch.empty(self.batch, 3, r, r, device="meta")

    def ws(self, batch: int) -> Tensor:
        return self.G.mapping(torch.empty(batch, self.G.z_dim, device="meta"), self.labels(batch))

    def generate(self) -> Tensor:
        with torch.no_grad():
            return self.G.synthesis(self.ws(self.batch), noise="random", dtype=self.dtype)

    def judge(self, images: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """As training/critic.py does; images: one batch or several."""
        c, checksum = self.labels(len(images)), self.auxiliary.checksum
        shift = checksum(torch.empty(len(images), BITS, 1, 1, device="meta")) if checksum else None
        dropout = "dropout" in self.config.regularise
        with noisy_inputs(self.D, torch.empty_like) if dropout else nullcontext():
            return self.D.judge(self.D.features(images, dtype, shift, len(images) // self.batch), c)

    def train_discriminator(self) -> None:
        chosen = self.config.regularise
        both = self.judge(torch.cat([self.images(), self.generate()]), self.dtype)
        loss = discriminator_loss(*both.chunk(2))
        more = [self.images(), self.images()] if "bcr" in chosen else []
        more += [self.generate()] if "zcr" in chosen else []
        for x in more:
            loss = loss + self.judge(x, self.dtype).mean()
        (loss + self.rotations(self.images())).backward()

    def rotations(self, images: Tensor) -> Tensor | float:
        head = self.auxiliary.rotation
        return rotation_loss(self.D, head, images, self.dtype) if head else 0.0

    def r1(self) -> None:
        real = self.images().requires_grad_()
        r1_penalty(self.judge(real, self.config.penalty_dtype), real, self.config.gamma).backward()

    def train_generator(self) -> None:
        images = self.G.synthesis(self.ws(self.batch), noise="random", dtype=self.dtype)
        with frozen(self.D, self.auxiliary):
            loss = generator_loss(self.judge(images, self.dtype)) + self.rotations(images)
            if "zcr" in self.config.regularise:
                loss = loss + self.G.synthesis(self.ws(self.batch), noise="random", dtype=self.dtype).mean()
            loss.backward()

    def path_length(self) -> None:
        ws = self.ws(max(self.batch // self.config.path_length_shrink, 1))
        images = self.G.synthesis(ws, noise="random", dtype=self.config.penalty_dtype)
        lengths = path_lengths(images, ws, torch.empty_like(images))
        path_length_penalty(lengths, torch.zeros([], device="meta"), self.config.path_length).backward()


class _Flops(TorchDispatchMode):
    """Sums PyTorch's own FLOP formulas. Its FlopCounterMode follows modules too, which second derivatives forbid."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        if formula:
            self.total += formula(*args, **(kwargs or {}), out_val=out)
        return out


def _measured(work: Callable[[], object], *networks: nn.Module) -> tuple[int, int]:
    """FLOPs of a piece of work, and the bytes that it keeps for the backward pass beside the networks' own."""
    own = {t.untyped_storage()._cdata for network in networks for t in network.state_dict(keep_vars=True).values()}
    kept: dict[int, torch.UntypedStorage] = {}  # the storages themselves, so that none is freed and its place reused

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage
        return tensor

    with _Flops() as flops, torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        work()
    return flops.total, sum(storage.nbytes() for storage in kept.values())
