"""The regularisers that ADA compares itself with (Appendix D.2), with its weights: plain functions.

Each is one term of D's or G's main loss, at every step, or a disturbance of D whose strength ADA's controller sets.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generator.discriminator import Discriminator, EqualizedConv
from generator.layers import EqualizedLinear

# spectral-d, spectral-g: training/spectral.py
REGULARISERS = ("bcr", "zcr", "rotation", "pa-gan", "dropout", "spectral-d", "spectral-g")
ADAPTIVE = ("pa-gan", "dropout")  # their strength is p, as augmentation's: one of them at a time
BCR_WEIGHT = 10  # lambda_real, lambda_fake
BCR_PIXELS = 8
ZCR_NOISE = 0.1  # sigma_noise
ZCR_WEIGHT_G, ZCR_WEIGHT_D = 0.02, 0.2  # lambda_gen, lambda_dis
ROTATION_WEIGHT_G, ROTATION_WEIGHT_D = 10, 5  # alpha, beta
BITS = 16


class Auxiliary(nn.Module):
    """What rotations and PA-GAN add to D: trained with it and kept in the checkpoint, but in no discriminator file.

    rotation: the last layer's four further outputs, logits of an image's orientation. checksum: fromRGB's weights for
    the bits, 16 further input channels that are constant over an image.
    """

    def __init__(self, regularise: Sequence[str], D: Discriminator):
        super().__init__()
        width, first = D.fc.weight.shape[0], D.from_rgb.weight.shape[0]
        self.rotation = EqualizedLinear(width, 4) if "rotation" in regularise else None
        self.checksum = EqualizedConv(BITS, first, 1, act="linear", bias=False) if "pa-gan" in regularise else None


def consistency(logits: Tensor, others: Tensor) -> Tensor:
    """E(D(x) - D(x'))^2, of images and the same ones changed (Zhao et al. 2020): [B, 1], [B, 1] -> scalar."""
    return (logits - others).square().mean()


def diversity(images: Tensor, others: Tensor) -> Tensor:
    """Mean square difference of images [B, 3, r, r] from almost the same latents: what zCR has G maximise."""
    return (images - others).square().mean()


def translate(images: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Move each image [B, 3, H, W] by whole pixels [B] to the right and down; it is continued by reflection."""
    height, width = images.shape[2:]
    columns = _reflected(torch.arange(width, device=x.device) - x[:, None], width)
    rows = _reflected(torch.arange(height, device=y.device) - y[:, None], height)
    batch = torch.arange(len(images), device=x.device)[:, None, None]
    moved = images.permute(0, 2, 3, 1)[batch, rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2)


def _reflected(index: Tensor, size: int) -> Tensor:
    """The pixel that shows at a place beyond the edge, which is not repeated."""
    index = index % (2 * size - 2)
    return torch.minimum(index, 2 * size - 2 - index)


def draw_translation(batch: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Whole pixels from -8 to 8, x and y: [B], [B]."""
    moves = torch.randint(-BCR_PIXELS, BCR_PIXELS + 1, [2, batch], generator=rng, device=rng.device)
    return moves[0], moves[1]


def rotation_loss(D: Discriminator, head: nn.Module, images: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Cross-entropy of D's guess how far images [B, 3, r, r] were turned, over the four orientations: -> scalar.

    Chen et al. 2019. Every orientation passes D by itself, so that the groups of the minibatch standard deviation are
    those of the images as they are, however a batch is divided.
    """
    losses = []
    for turns in range(4):
        logits = head(D.features(images.rot90(turns, (2, 3)), dtype))
        losses.append(F.cross_entropy(logits, torch.full([len(images)], turns, device=images.device)))
    return torch.stack(losses).mean()


def draw_bits(p: float, batch: int, rng: torch.Generator) -> Tensor:
    """PA-GAN's bit strings [B, 16]: k = ceil(16 p) of the bits are random, the last of these fades in."""
    k = math.ceil(p * BITS)
    chances = torch.zeros(BITS, device=rng.device)
    if k:
        chances[: k - 1] = 0.5
        chances[k - 1] = min(p * BITS - k + 1, 0.5)
    return (torch.rand(batch, BITS, generator=rng, device=rng.device) < chances).float()


def parity_sign(bits: Tensor) -> Tensor:
    """[B, 16] -> [B, 1]: -1 where the number of bits set is odd, so that D has to turn its answer round, else 1."""
    return 1 - 2 * (bits.sum(1, keepdim=True) % 2)


@contextmanager
def noisy_inputs(D: Discriminator, draw: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Multiply the input x of every convolution and dense layer of D, but for the labels', by 1 + draw(x)."""

    def disturb(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        x, *rest = args
        return (x * (1 + draw(x)).to(x.dtype), *rest)

    with ExitStack() as stack:
        for name, module in D.named_modules():
            if isinstance(module, EqualizedConv | EqualizedLinear) and not name.startswith("label_mapping"):
                stack.callback(module.register_forward_pre_hook(disturb).remove)
        yield


@contextmanager
def gaussian_dropout(D: Discriminator, sigma: float, rngs: Sequence[torch.Generator]) -> Iterator[None]:
    """Multiplicative Gaussian dropout N(1, sigma^2) of what every layer of D takes, element by element.

    rngs: one for each image of the batch, so that its noise does not depend on the others.
    """

    def draw(x: Tensor) -> Tensor:
        return sigma * torch.stack([torch.randn(x.shape[1:], generator=rng, device=rng.device) for rng in rngs])

    with noisy_inputs(D, draw) if sigma else nullcontext():
        yield
