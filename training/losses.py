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


def lsgan_generator_loss(fake_logits: Tensor) -> Tensor:
    """Least squares: 1/2 E(D(G(z)) - 1)^2 (Mao et al. 2016): [B, 1] -> scalar."""
    return (fake_logits - 1).square().mean() / 2


def lsgan_discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Least squares: 1/2 E(D(x) - 1)^2 + 1/2 E D(G(z))^2: [B, 1], [B, 1] -> scalar."""
    return (real_logits - 1).square().mean() / 2 + fake_logits.square().mean() / 2


def wasserstein_generator_loss(fake_logits: Tensor) -> Tensor:
    """-E D(G(z)) (Gulrajani et al. 2017): [B, 1] -> scalar."""
    return -fake_logits.mean()


def wasserstein_discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """E D(G(z)) - E D(x) + 0.001 E D(x)^2, its drift term (Progressive GAN, Appendix A.1): -> scalar."""
    return fake_logits.mean() - real_logits.mean() + 0.001 * real_logits.square().mean()


def gradient_penalty(logits: Tensor, images: Tensor, weight: float = 10) -> Tensor:
    """weight * E(||grad_x D(x)|| - 1)^2 where real and generated images are mixed (Gulrajani et al. 2017): scalar.

    images [B, 3, r, r] must require gradients and have produced logits.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return weight * (gradient.square().sum([1, 2, 3]).sqrt() - 1).square().mean()


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


# by name: what D minimises, what G minimises
LOSSES = {
    "logistic": (discriminator_loss, generator_loss),
    "lsgan": (lsgan_discriminator_loss, lsgan_generator_loss),
    "wgan-gp": (wasserstein_discriminator_loss, wasserstein_generator_loss),
}
