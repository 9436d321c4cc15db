"""D as a run's regularisers have it judge, and the terms that they add to the losses of a part of a batch."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from training.latents import Latents
from training.regularisers import (
    BCR_WEIGHT,
    ROTATION_WEIGHT_D,
    ROTATION_WEIGHT_G,
    ZCR_NOISE,
    ZCR_WEIGHT_D,
    ZCR_WEIGHT_G,
    consistency,
    diversity,
    draw_bits,
    draw_translation,
    gaussian_dropout,
    parity_sign,
    rotation_loss,
    translate,
)
from training.state import TrainingState
from training.streams import image_streams, stream


@dataclass(frozen=True)
class Judged:
    """Images [rows, 3, r, r] of a batch as D saw them, their labels, and D's logits [rows, 1]."""

    images: Tensor
    labels: Tensor | None
    logits: Tensor


def judge(
    state: TrainingState,
    images: Tensor,
    labels: Tensor | None,
    rows: Tensor,
    *purposes: str,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """D's logits; where the run has it so, under dropout, or with a checksum that turns its answer round.

    purposes: "real", "generated", "mixtures", "R1" or "G"; the same purpose, the same disturbance. images and logits:
    these rows of a batch for each purpose, one after another, [len(purposes) * rows, ...]. Together they cost less than
    apart, for many of a small network's costs don't depend on the batch. dtype: as Discriminator's.
    """
    D, count = state.D, len(purposes)
    purposes = tuple(f"judge {purpose}" for purpose in purposes)
    if "dropout" in state.config.regularise:
        rngs = [rng for purpose in purposes for rng in image_streams(state, purpose, rows)]
        with gaussian_dropout(D, state.p, rngs):
            return D(images, labels, dtype, count)
    if state.auxiliary.checksum is not None:
        whole = [draw_bits(state.p, state.config.batch, stream(state, purpose)) for purpose in purposes]
        bits = torch.cat([drawn[rows] for drawn in whole])
        shift = state.auxiliary.checksum(bits[:, :, None, None])
        return D.judge(D.features(images, dtype, shift, count), labels) * parity_sign(bits)
    return D(images, labels, dtype, count)


def nearby(state: TrainingState, latents: Latents, purpose: str) -> Latents:
    """The same latents but for codes moved by N(0, 0.1^2) (zCR)."""
    shape, rng = latents.codes[0].shape, stream(state, purpose)
    moved = [z + ZCR_NOISE * torch.randn(shape, generator=rng, device=rng.device) for z in latents.codes]
    return replace(latents, codes=moved)


def discriminator_terms(
    state: TrainingState, rows: Tensor, real: Judged, fake: Judged, near: Callable[[], Tensor]
) -> dict[str, Tensor]:
    """What the regularisers add to D's loss. near: makes the images that zCR compares the generated ones with."""
    config, terms = state.config, {}
    if "bcr" in config.regularise:
        for judged, purpose in ((real, "real"), (fake, "generated")):
            x, y = draw_translation(config.batch, stream(state, f"translate {purpose}"))
            moved = translate(judged.images, x[rows], y[rows])
            logits = judge(state, moved, judged.labels, rows, purpose, dtype=config.dtype)
            terms[f"bcr_{purpose}"] = BCR_WEIGHT * consistency(judged.logits, logits)
    if "zcr" in config.regularise:
        logits = judge(state, near(), fake.labels, rows, "generated", dtype=config.dtype)
        terms["zcr_d"] = ZCR_WEIGHT_D * consistency(fake.logits, logits)
    if state.auxiliary.rotation is not None:
        loss = rotation_loss(state.D, state.auxiliary.rotation, real.images, config.dtype)
        terms["rotation_d"] = ROTATION_WEIGHT_D * loss
    return terms


def generator_terms(state: TrainingState, made: Tensor, shown: Tensor, near: Callable[[], Tensor]) -> dict[str, Tensor]:
    """What the regularisers add to G's loss. made: its images [rows, 3, r, r]; shown: as D sees them."""
    terms = {}
    if "zcr" in state.config.regularise:
        terms["zcr_g"] = -ZCR_WEIGHT_G * diversity(made, near())
    if state.auxiliary.rotation is not None:
        loss = rotation_loss(state.D, state.auxiliary.rotation, shown, state.config.dtype)
        terms["rotation_g"] = ROTATION_WEIGHT_G * loss
    return terms
