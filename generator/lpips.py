"""LPIPS (Zhang et al. 2018, version 0.1) with the calibrated heads of the `lpips` package.

The same numbers as `lpips.LPIPS`, arranged for a projector: the target's features are computed once, and a layer's
distance and its gradient each take one pass over the features.
"""

from importlib.resources import as_file, files

import torch
from torch import Tensor, nn

from generator.features import FEATURES, FeatureNetwork

EPSILON = 1e-10  # of the unit normalisation, as in the lpips package


class LPIPS(nn.Module):
    """Perceptual distance between images in [-1, 1]; net: "vgg" or "alex". Raises ValueError for another net."""

    def __init__(self, net: str = "vgg"):
        super().__init__()
        self.net = net
        self.features_of = FeatureNetwork(net)
        with as_file(files("lpips") / "weights" / "v0.1" / f"{net}.pth") as path:
            heads = torch.load(path, map_location="cpu", weights_only=True)
        for layer in range(len(FEATURES[net].stages)):
            self.register_buffer(f"head_{layer}", heads[f"lin{layer}.model.1.weight"].flatten())
        self.eval()

    @property
    def heads(self) -> list[Tensor]:
        """The non-negative weights of the channels, one vector per layer."""
        return [getattr(self, f"head_{layer}") for layer in range(len(self.features_of.spec.stages))]

    def features(self, images: Tensor, dtype: torch.dtype | None = None) -> list[Tensor]:
        """[B, 3, H, W] in [-1, 1] -> unit-normalised features [B, C, H, W] of each layer, without gradients.

        What `per_layer` wants of a target: compute it once for an image.
        """
        with torch.no_grad():
            return [_normalize(f)[0] for f in self.features_of(images, dtype)]

    def per_layer(self, images: Tensor, target: list[Tensor], dtype: torch.dtype | None = None) -> Tensor:
        """Distance of images [B, 3, H, W] to target features, layer by layer: [B, layers], float32 or better."""
        pairs = zip(self.features_of(images, dtype), target, self.heads, strict=True)
        return torch.stack([_LayerDistance.apply(f, t, head) for f, t, head in pairs], dim=1)

    def forward(self, images: Tensor, others: Tensor) -> Tensor:
        """LPIPS of pairs: [B, 3, H, W], [B, 3, H, W] in [-1, 1] -> [B]; differentiable in `images`."""
        return self.per_layer(images, self.features(others)).sum(1)


def _normalize(f: Tensor) -> tuple[Tensor, Tensor]:
    """f / (|f| + eps) over channels, and 1 / (|f| + eps) [B, 1, H, W], which is float32 or better."""
    norm = torch.linalg.vector_norm(f, dim=1, keepdim=True, dtype=torch.promote_types(f.dtype, torch.float32))
    inverse = (norm + EPSILON).reciprocal()
    return f * inverse.to(f.dtype), inverse


class _LayerDistance(torch.autograd.Function):
    """mean over pixels of sum_c head_c (f_c / |f| - t_c)^2, with its gradient in f written out.

    The gradient is made along with the distance, in place: one tensor of f's size is kept for the way back, not two.
    """

    @staticmethod
    def forward(ctx, f, target, head):
        unit, inverse = _normalize(f)
        difference = unit - target
        weighted = difference * head.to(f.dtype).view(1, -1, 1, 1)
        pixels = f.shape[2] * f.shape[3]
        total = (weighted * difference).sum([1, 2, 3], dtype=inverse.dtype) / pixels
        if ctx.needs_input_grad[0]:
            # d/df of f/|f| projects out the component along f: (I - u u^T) / |f|
            along = (weighted * unit).sum(1, keepdim=True)
            factor = (2 / pixels * inverse).to(f.dtype)
            ctx.save_for_backward(weighted.addcmul_(unit, along, value=-1).mul_(factor))
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        (gradient,) = ctx.saved_tensors
        return gradient * grad.to(gradient.dtype).view(-1, 1, 1, 1), None, None
