"""The losses and regularisers of StyleGAN2 as plain functions; the loop alone calls backward."""

import torch
import torch.nn.functional as F
from torch import Tensor


def generator_loss(fake_logits: Tensor) -> Tensor:
    """Non-saturating logistic loss of G, -log sigmoid(D(G(z))): [B, 1] -> scalar (Goodfellow et al. 2014)."""
    return F.softplus(-fake_logits).mean()


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Logistic loss of D: [B, 1], [B, 1] -> scalar."""
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()


def r1_penalty(real_logits: Tensor, real_images: Tensor, gamma: float) -> Tensor:
    """gamma/2 E||grad_x D(x)||^2 on real images (Mescheder et al. 2018): scalar.

    real_images [B, 3, r, r] must require gradients and have produced real_logits.
    """
    (gradient,) = torch.autograd.grad(real_logits.sum(), real_images, create_graph=True)
    return gamma / 2 * gradient.square().sum([1, 2, 3]).mean()


def path_lengths(images: Tensor, ws: Tensor, noise: Tensor) -> Tensor:
    """||J_w^T y|| per image, the root mean square over layers (StyleGAN2, eq. 4 and Appendix B): -> [B].

    images [B, 3, r, r] made from ws [B, num_ws, w_dim]; y = noise [B, 3, r, r], N(0, I), is scaled by 1/r here.
    """
    y = noise / images.shape[2]
    (gradient,) = torch.autograd.grad((images * y).sum(), ws, create_graph=True)
    return gradient.square().sum(2).mean(1).sqrt()


def path_length_penalty(lengths: Tensor, target: Tensor, weight: float) -> Tensor:
    """weight * E(||J_w^T y|| - a)^2 (StyleGAN2, eq. 4): lengths [B], target a -> scalar."""
    return weight * (lengths - target).square().mean()
