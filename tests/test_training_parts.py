"""A batch in parts, one after the other or on several processes, is the same batch."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from generator import load_generator
from generator.discriminator import group_size_in, minibatch_stddev
from generator.networks import GeneratorConfig
from training.augment import CATEGORIES, augment
from training.config import TrainingConfig
from training.dataset import TrainingImages
from training.latents import draw_latents
from training.loop import train
from training.state import TrainingState
from training.step import train_step
from training.workers import Workers, split_into_groups

BATCH = 8
CONFIG = TrainingConfig(
    network=GeneratorConfig(resolution=8, z_dim=4, w_dim=4, mapping_layers=1, channel_base=32, channel_max=4),
    batch=BATCH,
    kimg=4 * BATCH / 1000,
    gamma=0.5,
    r1_interval=2,
    path_length_interval=2,
    style_mixing=0.5,
    mbstd_group_size=2,
    x_flip=True,
    augment=CATEGORIES,
)
DATA = TrainingImages(np.random.default_rng(0).integers(0, 256, (10, 8, 8, 3), dtype=np.uint8), "d" * 64)


@given(groups=st.integers(1, 6), parts=st.integers(1, 6), group_size=st.integers(1, 6), extra=st.integers(0, 3))
def test_parts_keep_the_groups_of_the_minibatch_standard_deviation(groups, parts, group_size, extra):
    batch = groups * parts * group_size
    asked = group_size + extra  # a group size that the batch may not allow
    if (batch // group_size_in(batch, asked)) % parts:
        with pytest.raises(
            ValueError, match=rf"^--batch: found {batch} images in .* expected a multiple of {parts} groups"
        ):
            split_into_groups(batch, asked, parts)
        return
    x = torch.randn(batch, 2, 1, 1, generator=torch.Generator().manual_seed(0))
    whole, rows = minibatch_stddev(x, asked), split_into_groups(batch, asked, parts)
    assert sorted(torch.cat(rows).tolist()) == list(range(batch))
    for part in rows:
        torch.testing.assert_close(minibatch_stddev(x[part], asked), whole[part])


@pytest.mark.parametrize("rows", [[0, 1], [5], [7, 2, 4]])
def test_an_image_is_augmented_alike_in_any_part(rows):
    images = torch.rand(8, 3, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1
    whole = augment(images, 0.3, torch.Generator().manual_seed(2), CATEGORIES)
    part = augment(images[rows], 0.3, torch.Generator().manual_seed(2), CATEGORIES, torch.tensor(rows), 8)
    torch.testing.assert_close(part, whole[rows])
    assert not torch.equal(whole, images)


def gradients_of_a_step(config: TrainingConfig, workers: Workers | None = None) -> list[torch.Tensor]:
    """What every optimiser step of one training step sees, with networks that stay as they are."""
    state = TrainingState(replace(config, lr=0.0), workers=workers)
    state.p = 0.5
    seen: list[torch.Tensor] = []
    for optimizer in (state.opt_D, state.opt_G):
        optimizer.register_step_pre_hook(
            lambda of, *_: seen.extend(p.grad.clone() for p in of.param_groups[0]["params"] if p.grad is not None)
        )
    train_step(state, DATA)
    return seen


def assert_same_gradients(found: list[torch.Tensor], expected: list[torch.Tensor]) -> None:
    assert len(found) == len(expected) > 60  # of D, R1, G and path length
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5 * float(b.abs().max()) + 1e-6)


@pytest.mark.parametrize("accumulate", [2, 4])
def test_accumulated_gradients_are_those_of_the_whole_batch(accumulate):
    whole, parts = gradients_of_a_step(CONFIG), gradients_of_a_step(replace(CONFIG, accumulate=accumulate))
    assert_same_gradients(parts, whole)


def test_a_path_length_batch_smaller_than_the_number_of_parts():
    config = replace(CONFIG, path_length_shrink=4)
    whole, parts = gradients_of_a_step(config), gradients_of_a_step(replace(config, accumulate=4))
    assert_same_gradients(parts, whole)


@pytest.mark.parametrize("loss", ["lsgan", "wgan-gp"])
def test_the_losses_to_compare_with_train_both_networks_in_any_parts(loss):
    config = replace(CONFIG, loss=loss, gamma=0, augment=())
    whole, parts = TrainingState(config), TrainingState(replace(config, accumulate=2))
    before = [p.clone() for network in (whole.G, whole.D) for p in network.parameters()]
    for _ in range(3):
        expected, found = train_step(whole, DATA), train_step(parts, DATA)
        assert found == pytest.approx(expected, rel=1e-3, abs=1e-3)
    assert ("gradient_penalty" in expected) == (loss == "wgan-gp")
    after = [p for network in (whole.G, whole.D) for p in network.parameters()]
    assert not any(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("accumulate", [2, 4])
def test_losses_of_an_accumulating_run_are_those_without(accumulate):
    """Within 1e-3: Adam's first steps follow the sign of gradients that are rounding errors."""
    whole, parts = TrainingState(CONFIG), TrainingState(replace(CONFIG, accumulate=accumulate))
    whole.p = parts.p = 0.5
    for _ in range(4):
        expected, found = train_step(whole, DATA), train_step(parts, DATA)
        assert found == pytest.approx(expected, rel=1e-3, abs=1e-3)
    torch.testing.assert_close(parts.G.mapping.w_avg, whole.G.mapping.w_avg, rtol=1e-3, atol=1e-3)


def test_the_shares_of_processes_add_up_to_the_whole_gradients():
    """What each of two processes would contribute, without the network between them."""
    whole = gradients_of_a_step(CONFIG)
    one, two = (gradients_of_a_step(CONFIG, AloneAmong(rank, 2)) for rank in (0, 1))
    assert_same_gradients([a + b for a, b in zip(one, two, strict=True)], whole)


class AloneAmong(Workers):
    """A process whose sums stay its own."""

    def add_up(self, tensors):
        pass


def test_style_mixing_is_as_likely_as_asked_and_crosses_over_anywhere():
    G, rng, draws = TrainingState(CONFIG).G, torch.Generator().manual_seed(0), 2000
    found = np.array([draw_latents(G, 2, 0.9, rng).crossover for _ in range(draws)])
    assert abs((found > 0).mean() - 0.9) < 4 * (0.9 * 0.1 / draws) ** 0.5
    counts = np.bincount(found[found > 0], minlength=G.num_ws)[1:]
    assert len(counts) == G.num_ws - 1 and chisquare(counts).pvalue > 1e-4
    assert not any(draw_latents(G, 2, 0, rng).crossover for _ in range(20))


def test_the_mean_path_length_follows_the_lengths():
    """a <- a + decay (mean length - a), with the lengths of that step."""
    state = TrainingState(replace(CONFIG, path_length_interval=1, path_length_decay=0.25))
    expected = 0.0
    for _ in range(3):
        figures = train_step(state, DATA)
        expected += 0.25 * (figures["path_length"] - expected)
        assert state.path_length_mean.item() == pytest.approx(expected, rel=1e-5)


def test_a_run_goes_on_with_another_number_of_parts(tmp_path):
    straight = load_generator(train(CONFIG, DATA, tmp_path / "straight"))
    train(replace(CONFIG, kimg=2 * BATCH / 1000), DATA, tmp_path / "divided")
    divided = load_generator(train(replace(CONFIG, accumulate=2), DATA, tmp_path / "divided"))
    for name, tensor in divided.state_dict().items():
        torch.testing.assert_close(tensor, straight.state_dict()[name], rtol=1e-2, atol=1e-2)


def test_a_batch_that_cannot_be_divided_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"^--batch: found 8 images in 4 groups .* multiple of 3 groups"):
        train(replace(CONFIG, accumulate=3), DATA, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_processes_that_see_different_folders_are_refused(monkeypatch):
    other = torch.tensor([0, 0])  # the other process has found no checkpoint
    monkeypatch.setattr("torch.distributed.all_reduce", lambda ends, op: ends.copy_(torch.maximum(ends, other)))
    with pytest.raises(
        ValueError, match=r"^--out: found processes at steps 0 and 3, expected a folder that all of them"
    ):
        Workers(0, 2).require_same_step(3, torch.device("cpu"))
    Workers(0, 2).require_same_step(0, torch.device("cpu"))
