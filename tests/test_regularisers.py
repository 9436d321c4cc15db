"""The regularisers to compare with against their formulas, in networks of float64, and in tiny runs."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from generator import load_generator
from generator.files import discriminator_beside, load_discriminator
from generator.networks import Generator, build_discriminator
from tests.test_training_parts import BATCH, DATA, AloneAmong, assert_same_gradients, gradients_of_a_step
from tests.test_training_parts import CONFIG as PARTS
from training import loop
from training.critic import judge, nearby
from training.dataset import TrainingImages
from training.estimate import _Phases, estimate
from training.latents import Latents
from training.loop import train
from training.presets import resolve
from training.regularisers import (
    REGULARISERS,
    Auxiliary,
    consistency,
    diversity,
    draw_bits,
    draw_translation,
    gaussian_dropout,
    parity_sign,
    rotation_loss,
    translate,
)
from training.spectral import iterate, normalise, plain_copy, take_over
from training.state import TrainingState
from training.step import train_step

CONFIG = replace(
    PARTS,
    x_flip=False,
    augment=(),
    ada_interval=2,
    ada_target=-2,  # p always rises
    ada_kimg=0.1,
)
PIXELS = DATA.pixels
LABELLED = TrainingImages(PIXELS, "e" * 64, np.arange(10) % 2, ("even", "odd"))
ALL_AT_ONCE = ("bcr", "zcr", "rotation", "spectral-d", "spectral-g")
CHOICES = [*((name,) for name in REGULARISERS), ALL_AT_ONCE]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tiny_discriminator() -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_discriminator(CONFIG.network, mbstd_group_size=1).double()


# ---------------------------------------------------------------- the formulas


def test_differences_are_mean_squares():
    a, b = (np.random.default_rng(seed).normal(size=(4, 3, 2, 2)) for seed in (0, 1))
    images = torch.from_numpy(a), torch.from_numpy(b)
    assert diversity(*images).item() == pytest.approx(np.mean((a - b) ** 2))
    logits = torch.tensor([[1.0], [-2.0]]), torch.tensor([[0.5], [1.0]])
    assert consistency(*logits).item() == pytest.approx((0.5**2 + 3**2) / 2)


@given(x=st.integers(-8, 8), y=st.integers(-8, 8), size=st.sampled_from([4, 8, 16]))
def test_a_translation_moves_whole_pixels_and_reflects(x, y, size):
    image = np.random.default_rng(0).normal(size=(1, 3, size, size))
    padded = np.pad(image, ((0, 0), (0, 0), (8, 8), (8, 8)), mode="reflect")
    expected = padded[:, :, 8 - y : 8 - y + size, 8 - x : 8 - x + size]
    moved = translate(torch.from_numpy(image), torch.tensor([x]), torch.tensor([y]))
    np.testing.assert_array_equal(moved.numpy(), expected)


def test_translations_are_drawn_from_8_pixels_either_way():
    for drawn in draw_translation(4000, seeded()):
        counts = torch.bincount(drawn + 8, minlength=17)
        assert len(counts) == 17 and counts.min() > 4000 / 17 * 0.7


def test_bcr_in_a_step_is_its_formula(monkeypatch):
    """What D saw, moved by pixels that are drawn for real and generated images apart, weighs 10 each."""
    state = TrainingState(replace(CONFIG, regularise=("bcr",), lr=0.0))
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    state.D.register_forward_hook(lambda module, args, output: seen.append((args[0].detach(), output.detach())))
    figures = train_step(state, DATA)
    (both, logits), (moved_real, moved_r), (moved_fake, moved_f) = seen[:3]
    (real, fake), (real_logits, fake_logits) = both.chunk(2), logits.chunk(2)
    for x, moved in ((real, moved_real), (fake, moved_fake)):
        shifts = [(i, j) for i in range(-8, 9) for j in range(-8, 9)]
        for image, other in zip(x, moved, strict=True):
            ones = torch.ones(1, dtype=torch.int64)
            assert any(torch.equal(translate(image[None], i * ones, j * ones)[0], other) for i, j in shifts)
    real_term, fake_term = (
        10 * ((a - b) ** 2).mean().item() for a, b in ((real_logits, moved_r), (fake_logits, moved_f))
    )
    assert figures["bcr_real"] == pytest.approx(real_term) and figures["bcr_generated"] == pytest.approx(fake_term)
    main = (F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()).item()
    assert figures["loss_d"] == pytest.approx(main + real_term + fake_term)


def test_zcr_in_a_step_is_its_formula():
    state = TrainingState(replace(CONFIG, regularise=("zcr",), lr=0.0, style_mixing=0, gamma=0, path_length=0))
    made: list[torch.Tensor] = []
    logits: list[torch.Tensor] = []
    state.G.synthesis.register_forward_hook(lambda module, args, output: made.append(output.detach()))
    state.D.register_forward_hook(lambda module, args, output: logits.append(output.detach()))
    figures = train_step(state, DATA)
    assert len(made) == 4  # for D and near it, for G and near it
    both, near, of_g = logits
    fake = both[BATCH:]
    assert figures["zcr_d"] == pytest.approx(0.2 * ((fake - near) ** 2).mean().item())
    assert figures["zcr_g"] == pytest.approx(-0.02 * ((made[2] - made[3]) ** 2).mean().item())
    assert figures["loss_g"] == pytest.approx(F.softplus(-of_g).mean().item() + figures["zcr_g"])


def test_zcr_moves_every_component_of_the_codes():
    state = TrainingState(CONFIG)
    codes = [torch.zeros(1000, 4), torch.ones(1000, 4)]
    near = nearby(state, Latents(codes, None, 3, []), "near G images")
    for z, moved in zip(codes, near.codes, strict=True):
        assert (moved - z).std().item() == pytest.approx(0.1, rel=0.05)
    assert near.crossover == 3


def test_the_rotation_loss_is_a_cross_entropy_over_four_orientations():
    D = tiny_discriminator()
    head: Any = Auxiliary(("rotation",), D).double().rotation
    images = torch.randn(3, 3, 8, 8, dtype=torch.float64, generator=seeded())
    total = 0.0
    for turns in range(4):
        turned = torch.from_numpy(np.rot90(images.numpy(), turns, axes=(2, 3)).copy())
        logits = head(D.features(turned)).detach().numpy()
        total -= (logits[:, turns] - np.log(np.exp(logits).sum(1))).sum()
    assert rotation_loss(D, head, images).item() == pytest.approx(total / 12)


def test_the_rotation_loss_has_the_gradient_of_finite_differences():
    D = tiny_discriminator()
    head: Any = Auxiliary(("rotation",), D).double().rotation
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64, generator=seeded()).requires_grad_()
    direction = torch.randn(images.shape, dtype=torch.float64, generator=seeded(1))
    (gradient,) = torch.autograd.grad(rotation_loss(D, head, images), images)
    with torch.no_grad():
        ends = [rotation_loss(D, head, images + t * direction).item() for t in (-1e-6, 1e-6)]
    assert (gradient * direction).sum().item() == pytest.approx((ends[1] - ends[0]) / 2e-6, rel=1e-5)


@pytest.mark.parametrize(
    ("p", "k", "last"), [(0.0, 0, 0.0), (0.01, 1, 0.16), (0.3, 5, 0.5), (0.26, 5, 0.16), (1, 16, 0.5)]
)
def test_the_bits_are_those_of_appendix_d(p, k, last):
    """The first k - 1 from Bernoulli(1/2), the k-th from Bernoulli(min(16 p - k + 1, 1/2)), the others 0."""
    assert math.ceil(p * 16) == k
    found = draw_bits(p, 20000, seeded()).mean(0)
    expected = [0.5] * (k - 1) + [last] * (k > 0) + [0.0] * (16 - k)
    np.testing.assert_allclose(found, expected, atol=0.015)
    assert (found[k:] == 0).all()


def test_parity_turns_the_answer_round():
    bits = torch.tensor([[0.0] * 16, [1.0] + [0.0] * 15, [1.0, 1.0] + [0.0] * 14, [1.0] * 15 + [0.0]])
    assert parity_sign(bits).flatten().tolist() == [1, -1, 1, -1]


def test_the_bits_are_further_input_channels_of_the_discriminator():
    state = TrainingState(replace(CONFIG, regularise=("pa-gan",)))
    D: Any = state.D
    checksum: Any = state.auxiliary.checksum
    x = torch.randn(4, 3, 8, 8, generator=seeded())
    bits = draw_bits(0.5, 4, seeded(1))
    planes = torch.cat([x, bits[:, :, None, None].expand(-1, -1, 8, 8)], 1)
    weight = torch.cat([D.from_rgb.weight / math.sqrt(3), checksum.weight / math.sqrt(16)], 1)
    expected = F.leaky_relu(F.conv2d(planes, weight, D.from_rgb.bias), 0.2) * math.sqrt(2)
    found = D.from_rgb(x, shift=checksum(bits[:, :, None, None]))
    torch.testing.assert_close(found, expected)
    # without bits, p = 0, it judges as it would alone; with them as often the other way round as their parity says
    rows = torch.arange(BATCH)
    images = torch.randn(BATCH, 3, 8, 8, generator=seeded(2))
    torch.testing.assert_close(judge(state, images, None, rows, "real"), D(images))
    state.p = 1.0
    D.out.weight.data.zero_(), D.out.bias.data.fill_(1.0)
    signs = judge(state, images, None, rows, "real")
    assert set(signs.flatten().tolist()) == {1.0, -1.0}
    assert torch.equal(judge(state, images[3:5], None, rows[3:5], "real"), signs[3:5])


def test_dropout_multiplies_what_every_layer_takes():
    D = build_discriminator(replace(CONFIG.network, c_dim=2), 2)
    seen: dict[str, torch.Tensor] = {}
    images, c = torch.ones(64, 3, 8, 8), F.one_hot(torch.zeros(64, dtype=torch.int64), 2).float()
    with gaussian_dropout(D, 0.25, [seeded(i) for i in range(64)]):
        D.from_rgb.register_forward_pre_hook(lambda module, args: seen.update(first=args[0]))
        D(images, c)
    noise = seen["first"]
    assert noise.mean().item() == pytest.approx(1, abs=0.01) and noise.std().item() == pytest.approx(0.25, rel=0.03)
    assert len(torch.unique(noise)) > 0.99 * noise.numel()  # element by element
    with gaussian_dropout(D, 0.25, [seeded(i) for i in range(64)]):
        layers = {n for n, m in D.named_modules() if len(m._forward_pre_hooks) > (n == "from_rgb")}
    blocks = {f"blocks.0.{layer}" for layer in ("conv0", "conv1", "skip")}
    assert layers == {"from_rgb", "conv", "fc", "out"} | blocks
    assert not any(len(m._forward_pre_hooks) > (n == "from_rgb") for n, m in D.named_modules())


def test_dropout_is_as_strong_as_p_and_the_same_in_any_part():
    state = TrainingState(replace(CONFIG, regularise=("dropout",)))
    images, rows = torch.randn(BATCH, 3, 8, 8, generator=seeded()), torch.arange(BATCH)
    assert torch.equal(judge(state, images, None, rows, "real"), state.D(images))
    state.p = 0.5
    whole = judge(state, images, None, rows, "real")
    assert not torch.equal(whole, state.D(images))
    part = torch.tensor([2, 6])  # one group of the minibatch standard deviation
    torch.testing.assert_close(judge(state, images[part], None, part, "real"), whole[part])
    assert not torch.equal(judge(state, images, None, rows, "generated"), whole)


@pytest.mark.parametrize("disturbance", ["dropout", "pa-gan", "bcr"])
def test_batches_are_judged_together_as_apart(disturbance):
    state = TrainingState(replace(CONFIG, regularise=(disturbance,)))
    state.p, rows = 0.7, torch.arange(BATCH)
    real, fake = torch.randn(2, BATCH, 3, 8, 8, generator=seeded())
    together = judge(state, torch.cat([real, fake]), None, rows, "real", "generated")
    apart = [judge(state, real, None, rows, "real"), judge(state, fake, None, rows, "generated")]
    torch.testing.assert_close(together, torch.cat(apart))


# ---------------------------------------------------------------- spectral normalisation


def test_normalised_layers_work_with_weights_of_spectral_norm_1():
    state = TrainingState(replace(CONFIG, regularise=("spectral-d", "spectral-g")))
    for network in (state.D, state.G):
        iterate(network, 200)
    D: Any = state.D
    G: Any = state.G
    block = D.blocks[0]
    normalised = [(conv.weight * conv.weight_gain) for conv in (block.conv0, block.conv1, D.conv)]
    for synthesis in G.synthesis.blocks:
        normalised += [conv.weight for conv in synthesis.convs] + [
            conv.affine.weight * conv.affine.weight_gain for conv in synthesis.convs
        ]
        normalised += [synthesis.to_rgb.weight * synthesis.to_rgb.weight_gain]
    for weight in normalised:
        assert np.linalg.norm(weight.detach().flatten(1).numpy(), 2) == pytest.approx(1, abs=1e-3)
    plain = {n for n, _ in D.named_parameters() if "original" not in n and n.endswith("weight")}
    assert plain == {"from_rgb.weight", "blocks.0.skip.weight", "fc.weight", "out.weight"}


def test_demodulation_takes_the_normalisation_of_a_convolution_out():
    """StyleGAN2, Appendix E: all that is left is in the modulation and tRGB."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        G: Any = Generator(CONFIG.network).double()
        layer = G.synthesis.layers[1]
        x, w = torch.randn(2, 4, 4, 4).double(), torch.randn(2, 4).double()
        before = layer(x, w, None)
        scale = layer.affine.weight.detach().clone()
        normalise(G)
        layer.affine.parametrizations.weight.original.data.copy_(scale)
        torch.nn.utils.parametrize.remove_parametrizations(layer.affine, "weight", leave_parametrized=False)
    torch.testing.assert_close(layer(x, w, None), before, rtol=1e-5, atol=1e-6)


def test_plain_copies_work_alike_and_leave_the_network_as_it_is():
    state = TrainingState(replace(CONFIG, regularise=("spectral-d", "spectral-g")))
    images = torch.randn(2, 3, 8, 8, generator=seeded())
    D: Any = plain_copy(state.D)
    assert torch.equal(D(images), state.D(images))
    expected = {
        name: t.shape for name, t in build_discriminator(CONFIG.network, 2, label_layers=0).state_dict().items()
    }
    assert {name: t.shape for name, t in D.state_dict().items()} == expected
    # what a plain network's tensors are taken over as is a scaled version of it
    take_over(state.D, {name: 3 * t for name, t in D.state_dict().items()})
    iterate(state.D, 50)
    torch.testing.assert_close(state.D.conv.weight, D.conv.weight, rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(state.D.from_rgb.weight, 3 * D.from_rgb.weight)


def test_the_average_is_of_the_weights_that_the_generator_works_with():
    state = TrainingState(replace(CONFIG, regularise=("spectral-g",), ema_rampup=0.0))  # forgets all but the last
    for _ in range(2):
        train_step(state, DATA)
    ws = torch.randn(2, 4, generator=seeded())
    torch.testing.assert_close(state.G_ema.synthesis(ws), state.G.synthesis(ws))
    state = TrainingState(replace(CONFIG, regularise=("spectral-g",), ema_kimg=0.05, ema_rampup=1.0))
    train_step(state, DATA)
    average: Any = state.G_ema.synthesis.blocks[0]
    current: Any = state.G.synthesis.blocks[0]
    before = average.to_rgb.weight.clone()
    train_step(state, DATA)
    beta = 0.5 ** (BATCH / min(50, 2 * BATCH))
    expected = beta * before + (1 - beta) * current.to_rgb.weight
    torch.testing.assert_close(average.to_rgb.weight, expected.detach())


# ---------------------------------------------------------------- runs


@pytest.mark.parametrize("names", CHOICES, ids="+".join)
def test_parts_of_a_batch_are_the_same_batch(names):
    config = replace(CONFIG, regularise=names)
    whole, parts = TrainingState(config), TrainingState(replace(config, accumulate=4))
    whole.p = parts.p = 0.3
    before = [p.clone() for network in (whole.G, whole.D, whole.auxiliary) for p in network.parameters()]
    for _ in range(3):
        assert train_step(parts, DATA) == pytest.approx(train_step(whole, DATA), rel=1e-3, abs=1e-3)
    after = [p for network in (whole.G, whole.D, whole.auxiliary) for p in network.parameters()]
    assert all(p.requires_grad for p in after) and len(after) == len(before)
    assert not any(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("names", [ALL_AT_ONCE, ("pa-gan",), ("dropout",)], ids="+".join)
def test_the_shares_of_processes_add_up_to_the_whole_gradients(names):
    config = replace(CONFIG, regularise=names)
    whole = gradients_of_a_step(config)
    one, two = (gradients_of_a_step(config, AloneAmong(rank, 2)) for rank in (0, 1))
    assert_same_gradients([a + b for a, b in zip(one, two, strict=True)], whole)


@pytest.mark.parametrize("names", CHOICES, ids="+".join)
@pytest.mark.parametrize("conditional", [False, True], ids=["plain", "conditional"])
def test_a_run_resumes_to_the_same_bits_and_writes_plain_files(tmp_path, monkeypatch, names, conditional):
    monkeypatch.setattr(loop, "LOG_STEPS", 1)
    network = replace(CONFIG.network, c_dim=2 if conditional else 0)
    data = LABELLED if conditional else DATA
    config = replace(CONFIG, network=network, regularise=names, precision="bf16")
    straight = train(config, data, tmp_path / "straight")
    train(replace(config, kimg=2 * BATCH / 1000), data, tmp_path / "longer")
    longer = train(config, data, tmp_path / "longer")
    record, expected = (
        torch.load(tmp_path / name / "checkpoint.pt", weights_only=True)["state"] for name in ("longer", "straight")
    )
    assert record["p"] == expected["p"] and (record["p"] > 0) == (names[0] in ("pa-gan", "dropout"))
    assert ("auxiliary" in record) == bool({"rotation", "pa-gan"} & set(names))
    for part in {"G", "D", "G_ema", "auxiliary"} & record.keys():
        for name, tensor in expected[part].items():
            assert torch.equal(record[part][name], tensor), (part, name)
    assert load_generator(longer).config == network
    D = build_discriminator(network, 2, label_layers=0)
    load_discriminator(discriminator_beside(straight), D)


def test_a_normalised_run_starts_from_a_plain_file_and_the_other_way_round(tmp_path):
    plain = train(replace(CONFIG, kimg=BATCH / 1000), DATA, tmp_path / "plain")
    config = replace(CONFIG, kimg=BATCH / 1000, regularise=("spectral-d", "spectral-g", "rotation"))
    normalised = train(config, DATA, tmp_path / "normalised", init=plain)
    train(replace(CONFIG, kimg=BATCH / 1000, freeze_d=1), DATA, tmp_path / "again", init=normalised)


def test_a_dry_run_counts_what_the_regularisers_take():
    base = replace(CONFIG, gamma=0, path_length=0)
    plain = estimate(base)
    cost = {name: estimate(replace(base, regularise=(name,))) for name in REGULARISERS}
    # a forward and a backward pass of D for two more images; four orientations of D, and of D's inputs for G
    assert 0 < cost["bcr"].flops_train - plain.flops_train < plain.flops_train
    assert cost["rotation"].flops_train > plain.flops_train + 3 * (cost["bcr"].flops_train - plain.flops_train) / 2
    assert cost["zcr"].flops_train > plain.flops_train + 4 * plain.flops_generate
    assert all(cost[name].flops_train == plain.flops_train for name in ("dropout", "spectral-d", "spectral-g"))
    assert cost["rotation"].discriminator_parameters == plain.discriminator_parameters + 4 * 4 + 4
    assert cost["pa-gan"].discriminator_parameters == plain.discriminator_parameters + 16 * 4
    assert cost["bcr"].activation_bytes > plain.activation_bytes


def test_a_dry_run_counts_the_noise_on_what_the_discriminator_takes(monkeypatch):
    """For each image, real or generated, on what conv0, conv1, skip, the last convolution and fc take."""
    monkeypatch.setattr(_Phases, "train_generator", lambda self: None)  # keeps more, and shows D only one batch
    base = replace(CONFIG, gamma=0, path_length=0)
    plain, noisy = (estimate(replace(base, regularise=chosen)) for chosen in ((), ("dropout",)))
    taken = 3 * 4 * 64 + 5 * 16 + 4 * 16
    assert noisy.activation_bytes >= plain.activation_bytes + 2 * BATCH * taken * 4


# ---------------------------------------------------------------- what can be asked for


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"regularise": ("cutmix",)}, "--regularise: found 'cutmix', expected some of bcr, zcr, rotation, pa-gan"),
        (
            {"regularise": ("pa-gan", "dropout")},
            "--regularise: found pa-gan with dropout, expected one that is adapted",
        ),
        ({"regularise": ("dropout",), "augment": ("blit",)}, "--regularise: found dropout with augmentation"),
        ({"regularise": ("pa-gan",), "loss": "lsgan"}, "--regularise: found pa-gan with the loss lsgan, expected log"),
        ({"regularise": ("rotation",), "augment": ("colour", "blit")}, "--augment: found blit with rotation, expected"),
        ({"regularise": ("zcr",), "precision": "fp16"}, "--precision: found fp16 with zcr, expected fp32 or bf16"),
    ],
)
def test_what_cannot_be_is_named(asked, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        resolve("small-64", asked)


def test_each_comes_with_the_settings_of_adas_comparison():
    assert resolve("small-64", {"regularise": ("bcr",)}).augment == resolve("small-64", {}).augment
    assert resolve("small-64", {"regularise": ("zcr",)}).precision == "fp32"
    for name, target in (("pa-gan", 0.95), ("dropout", 0.6)):
        config = resolve("small-64", {"regularise": (name,)})
        assert config.augment == () and config.ada_target == target and config.adaptive
    assert not resolve("small-64", {"regularise": ("rotation",)}).adaptive
    assert resolve("small-64", {"regularise": ("rotation",), "augment": ("colour",)}).augment == ("colour",)
