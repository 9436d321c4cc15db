"""Generator and discriminator against golden outputs of the original implementation, and against the paper's equations.

golden-ada-16.safetensors was made by stylegan2-ada-pytorch: a small network's tensors, its inputs and what it computed.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from cuda_ops import convolve3x3, setup_filter, upfirdn2d
from generator.discriminator import Discriminator, minibatch_stddev
from generator.layers import convolve_transposed
from generator.networks import CONFIG_E, CONFIG_F, Generator, GeneratorConfig, build_discriminator, mix_styles
from generator.synthesis import SynthesisLayer

GOLDEN = Path(__file__).parent / "data" / "golden-ada-16.safetensors"
GOLDEN_CONFIG = GeneratorConfig(
    resolution=16, z_dim=32, w_dim=32, mapping_layers=2, channel_base=512, channel_max=32, clamp=1.0
)
TINY = GeneratorConfig(resolution=16, z_dim=6, w_dim=5, mapping_layers=2, channel_base=64, channel_max=8)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tiny_generator(config: GeneratorConfig = TINY) -> Generator:
    """A generator none of whose parts is at its trivial initial value."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        G = Generator(config)
        with torch.no_grad():
            for name, parameter in G.named_parameters():
                if name.endswith(("bias", "noise_strength")):
                    parameter.add_(torch.randn(parameter.shape) / 2)
            G.mapping.w_avg.normal_()
    return G.eval().requires_grad_(False)


# ---------------------------------------------------------------- golden outputs


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    return {name: t for name, t in load_file(GOLDEN).items() if "resample_filter" not in name}


def generator_name(name: str) -> str:
    def in_block(match: re.Match) -> str:
        resolution, rest = int(match[1]), match[2].replace("torgb", "to_rgb")
        if rest == "const":
            return "synthesis.const"
        first = 1 if resolution == 4 else 0  # the block of 4x4 has conv1 only
        rest = re.sub(r"conv(\d)", lambda conv: f"convs.{int(conv[1]) - first}", rest)
        return f"synthesis.blocks.{resolution.bit_length() - 3}.{rest}"

    name = re.sub(r"mapping\.fc(\d+)", r"mapping.layers.\1", name.removeprefix("G."))
    return re.sub(r"synthesis\.b(\d+)\.(.*)", in_block, name)


def golden_generator(golden: dict[str, Tensor], config: GeneratorConfig = GOLDEN_CONFIG) -> Generator:
    G = Generator(config)
    G.load_state_dict({generator_name(name): t for name, t in golden.items() if name.startswith("G.")})
    return G.eval().requires_grad_(False)


def golden_discriminator(golden: dict[str, Tensor]) -> Discriminator:
    def in_block(match: re.Match) -> str:
        resolution, rest = int(match[1]), match[2]
        if resolution == 4:
            return rest
        if rest.startswith("fromrgb"):
            return rest.replace("fromrgb", "from_rgb")
        return f"blocks.{GOLDEN_CONFIG.resolution.bit_length() - resolution.bit_length()}.{rest}"

    D = build_discriminator(replace(GOLDEN_CONFIG, clamp=None), mbstd_group_size=2)
    D.load_state_dict(
        {re.sub(r"D\.b(\d+)\.(.*)", in_block, name): t for name, t in golden.items() if name.startswith("D.")}
    )
    return D.requires_grad_(False)


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_golden_mapping_and_truncation(golden):
    mapping = golden_generator(golden).mapping
    close(mapping(golden["in.z"]), golden["out.w"])
    truncated = golden["out.w_psi0.6_cutoff3"]
    close(mapping(golden["in.z"], truncation_psi=0.6, truncation_cutoff=3), truncated)
    assert (truncated - golden["out.w"]).abs().max() > 0.1


def test_golden_images_with_and_without_noise(golden):
    synthesis = golden_generator(golden).synthesis
    assert all(layer.noise_strength.abs() > 1e-3 for layer in synthesis.layers)
    with_noise, without = golden["out.image_const_noise"], golden["out.image_no_noise"]
    assert (with_noise - without).abs().max() > 0.1
    close(synthesis(golden["out.w"], noise="const"), with_noise)
    close(synthesis(golden["out.w"], noise="none"), without)


def test_golden_images_need_the_clamp(golden):
    unclamped = golden_generator(golden, replace(GOLDEN_CONFIG, clamp=None)).synthesis(golden["out.w"])
    assert (unclamped - golden["out.image_const_noise"]).abs().max() > 0.01


def test_golden_logits(golden):
    D = golden_discriminator(golden)
    close(D(golden["out.image_const_noise"]), golden["out.logits"])
    D.mbstd_group_size = 4  # the groups of the minibatch standard deviation count
    assert (D(golden["out.image_const_noise"]) - golden["out.logits"]).abs().max() > 1e-3


# ---------------------------------------------------------------- the paper's numbers and equations


@pytest.mark.parametrize(("config", "generator", "discriminator"), [(CONFIG_E, 25, 24), (CONFIG_F, 30, 29)])
def test_parameter_counts_are_the_papers(config, generator, discriminator):
    # StyleGAN2, section 4.2: 25 M -> 30 M and 24 M -> 29 M
    networks = Generator(config), build_discriminator(config)
    counts = [sum(p.numel() for p in network.parameters()) / 1e6 for network in networks]
    assert [round(n) for n in counts] == [generator, discriminator]


@pytest.mark.parametrize("clamp", [None, 0.8])
@pytest.mark.parametrize("up", [False, True])
def test_layer_is_the_per_sample_modulated_convolution(up, clamp):
    """Equations 1-3 with a weight tensor of its own for every image, by grouped convolution."""
    batch, inputs, outputs, r = 3, 4, 5, 8
    layer = SynthesisLayer(inputs, outputs, w_dim=6, resolution=r, up=up, clamp=clamp).double()
    with torch.no_grad():
        layer.noise_strength.fill_(0.7)
        layer.bias.normal_(generator=seeded(1))
    size = r // 2 if up else r
    x = torch.randn(batch, inputs, size, size, dtype=torch.float64, generator=seeded(2))
    w = torch.randn(batch, 6, dtype=torch.float64, generator=seeded(3))
    noise = torch.randn(batch, 1, r, r, dtype=torch.float64, generator=seeded(4))

    style = w @ layer.affine.weight.T / np.sqrt(6) + layer.affine.bias
    weight = style[:, None, :, None, None] * layer.weight  # eq. 1
    weight = weight / torch.sqrt(weight.square().sum([2, 3, 4], keepdim=True) + 1e-8)  # eq. 3
    kernels, stacked = weight.reshape(batch * outputs, inputs, 3, 3), x.reshape(1, batch * inputs, size, size)
    if up:  # zero insertion, true convolution, low-pass filter
        spread = torch.zeros(1, batch * inputs, r, r, dtype=torch.float64)
        spread[:, :, ::2, ::2] = stacked
        stacked, kernels = F.pad(spread, [2, 1, 2, 1]), kernels.flip(2, 3)
        y = upfirdn2d(F.conv2d(stacked, kernels, groups=batch), setup_filter([1, 3, 3, 1]), padding=1, gain=4)
    else:
        y = F.conv2d(stacked, kernels, padding=1, groups=batch)
    y = y.reshape(batch, outputs, r, r) + 0.7 * noise + layer.bias[:, None, None]
    y = torch.where(y > 0, y, 0.2 * y) * np.sqrt(2)
    expected = y if clamp is None else y.clamp(-clamp, clamp)

    torch.testing.assert_close(layer(x, w, noise), expected, rtol=0, atol=1e-6 if up else 1e-12)


@pytest.mark.parametrize("convolve", [convolve3x3, convolve_transposed])
def test_frozen_convolutions_keep_no_input_and_have_the_same_gradients(convolve: Callable[..., Tensor]) -> None:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 5, 6, generator=rng, dtype=torch.float64, requires_grad=True)
    frozen = torch.randn(4, 3, 3, 3, generator=rng, dtype=torch.float64)
    kept = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor.shape)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        ours = convolve(x, frozen)
    theirs = convolve(x, frozen.clone().requires_grad_())  # trained weights take the library's way
    assert kept == [frozen.shape]
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    toward = torch.randn(ours.shape, generator=rng, dtype=torch.float64)
    ours, theirs = (torch.autograd.grad(y, x, toward)[0] for y in (ours, theirs))
    torch.testing.assert_close(ours, theirs)
    assert torch.autograd.gradgradcheck(lambda x: convolve(x, frozen), x)


def test_an_image_does_not_depend_on_its_batch_mates():
    G = tiny_generator().double()
    ws = torch.randn(4, G.w_dim, dtype=torch.float64, generator=seeded())
    alone = torch.cat([G.synthesis(w[None]) for w in ws])
    torch.testing.assert_close(G.synthesis(ws), alone, rtol=0, atol=1e-12)


def test_minibatch_stddev_is_the_mean_deviation_of_each_group():
    x = torch.randn(6, 2, 3, 3, dtype=torch.float64, generator=seeded())
    y = minibatch_stddev(x, group_size=4)  # 4 does not divide 6: groups of 3
    torch.testing.assert_close(y[:, :2], x)
    for member in range(6):
        group = x.numpy()[[i for i in range(6) if i % 2 == member % 2]]
        np.testing.assert_allclose(y[member, 2].numpy(), group.std(axis=0).mean(), rtol=1e-6)


def test_batches_that_a_discriminator_judges_together_share_no_group():
    D = build_discriminator(replace(TINY, c_dim=2), 4).double()
    batches = [torch.randn(6, 3, 16, 16, dtype=torch.float64, generator=seeded(i)) for i in range(3)]
    labels = [F.one_hot(torch.arange(6) % 2, 2).double() for _ in batches]
    apart = [D(images, c) for images, c in zip(batches, labels, strict=True)]  # groups of 3, where 18 allow no 4
    together = D(torch.cat(batches), torch.cat(labels), batches=3)
    torch.testing.assert_close(together, torch.cat(apart), rtol=1e-6, atol=1e-6)
    assert not torch.allclose(D(torch.cat(batches), torch.cat(labels)), together, rtol=1e-3)


@pytest.mark.parametrize("resolution", [8, 16, 32, 64, 128, 256, 512, 1024])
def test_every_resolution_builds_and_runs(resolution):
    config = GeneratorConfig(
        resolution=resolution, z_dim=2, w_dim=2, mapping_layers=1, channel_base=resolution, channel_max=2
    )
    with torch.no_grad():
        G, D = Generator(config), build_discriminator(config)
        assert G.num_ws == 2 * int(np.log2(resolution)) - 2
        image = G(torch.zeros(1, 2))
        assert image.shape == (1, 3, resolution, resolution)
        assert D(image).shape == (1, 1)


# ---------------------------------------------------------------- latent codes


def test_mixed_styles_reach_the_layers_on_their_side_of_the_crossover():
    G = tiny_generator()
    ws, other = (G.mapping(torch.randn(2, G.z_dim, generator=seeded(i))).clone().requires_grad_() for i in (0, 1))
    G.synthesis(mix_styles(ws, other, crossover=3)).square().sum().backward()
    coarse, fine = slice(None, 3), slice(3, None)
    assert ws.grad is not None and other.grad is not None
    assert ws.grad[:, coarse].abs().amin(dim=(0, 2)).gt(0).all() and not ws.grad[:, fine].any()
    assert other.grad[:, fine].abs().amin(dim=(0, 2)).gt(0).all() and not other.grad[:, coarse].any()


def test_truncation_moves_w_towards_its_mean():
    G = tiny_generator()
    z = torch.randn(3, G.z_dim, generator=seeded())
    w = G.mapping(z)
    torch.testing.assert_close(G.mapping(z, truncation_psi=0), G.mapping.w_avg.expand(3, G.num_ws, -1))
    torch.testing.assert_close(G.mapping(z, truncation_psi=0.3), G.mapping.w_avg + 0.3 * (w - G.mapping.w_avg))
    first_two = G.mapping(z, truncation_psi=0, truncation_cutoff=2)
    torch.testing.assert_close(first_two[:, :2], G.mapping.w_avg.expand(3, 2, -1))
    assert torch.equal(first_two[:, 2:], w[:, 2:])


def test_the_length_of_z_does_not_matter():
    G = tiny_generator().double()
    z = torch.randn(2, G.z_dim, dtype=torch.float64, generator=seeded())
    torch.testing.assert_close(G.mapping(5 * z), G.mapping(z), rtol=1e-6, atol=1e-8)


def test_labels_change_w():
    G = tiny_generator(replace(TINY, c_dim=3))
    z, labels = torch.randn(1, G.z_dim, generator=seeded()).expand(3, -1), torch.eye(3)
    w = G.mapping(z, labels)
    assert (w[0] - w[1]).abs().max() > 1e-3 and (w[1] - w[2]).abs().max() > 1e-3
    for c in (None, torch.eye(2), torch.zeros(3, 4)):
        with pytest.raises(ValueError, match=r"^c: found .*, expected labels of shape \(3, 3\)"):
            G.mapping(z, c)


# ---------------------------------------------------------------- noise


def test_constant_noise_is_what_is_stored():
    G = tiny_generator()
    w = torch.randn(2, G.w_dim, generator=seeded())
    stored = [layer.noise_const[None, None] for layer in G.synthesis.layers]
    assert torch.equal(G.synthesis(w, noise="const"), G.synthesis(w, noise=stored))


def test_no_noise_is_noise_of_zeros():
    G = tiny_generator()
    w = torch.randn(2, G.w_dim, generator=seeded())
    zeros = [torch.zeros(1, 1, layer.resolution, layer.resolution) for layer in G.synthesis.layers]
    torch.testing.assert_close(G.synthesis(w, noise="none"), G.synthesis(w, noise=zeros))
    assert (G.synthesis(w, noise="none") - G.synthesis(w)).abs().max() > 0.01


def test_random_noise_follows_its_generator_alone():
    G = tiny_generator()
    w = torch.zeros(2, G.w_dim)
    before = torch.get_rng_state()
    images = [G.synthesis(w, noise="random", generator=seeded(seed)) for seed in (0, 0, 1)]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(images[0], images[1])
    assert (images[0] - images[2]).abs().max() > 0.01
    assert (images[0][0] - images[0][1]).abs().max() > 0.01  # a map of its own for every image


def test_a_list_of_noise_gives_each_image_its_own_maps():
    G = tiny_generator()
    w = torch.randn(1, G.w_dim, generator=seeded())
    maps = [torch.randn(2, 1, layer.resolution, layer.resolution) for layer in G.synthesis.layers]
    together = G.synthesis(w.expand(2, -1), noise=maps)
    for i in range(2):
        torch.testing.assert_close(together[i : i + 1], G.synthesis(w, noise=[m[i : i + 1] for m in maps]))


# ---------------------------------------------------------------- precision


def test_bf16_feature_maps_stay_close_to_fp32():
    G, D = tiny_generator(), build_discriminator(TINY)
    w = torch.randn(4, G.w_dim, generator=seeded())
    full, half = G.synthesis(w), G.synthesis(w, dtype=torch.bfloat16)
    assert half.dtype == torch.float32
    error = (half - full).std() / full.std()
    assert 0 < error < 0.02
    with torch.no_grad():
        logits, half_logits = D(full), D(full, dtype=torch.bfloat16)
    assert half_logits.dtype == torch.float32
    torch.testing.assert_close(half_logits, logits, rtol=0.05, atol=0.05)


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("resolution", {"resolution": 4}),
        ("resolution", {"resolution": 2048}),
        ("resolution", {"resolution": 48}),
        ("z_dim", {"z_dim": 0}),
        ("mapping_layers", {"mapping_layers": 0}),
        ("channel_max", {"channel_max": -1}),
        ("c_dim", {"c_dim": -1}),
        ("channel_base", {"resolution": 64, "channel_base": 32}),
        ("z_dim", {"z_dim": 10**9}),
        ("w_dim", {"w_dim": 65537}),
        ("c_dim", {"c_dim": 10**20}),
        ("mapping_layers", {"mapping_layers": 65}),
        ("channel_max", {"channel_max": 10**6}),
        ("clamp", {"clamp": 0}),
        ("clamp", {"clamp": -256.0}),
        ("clamp", {"clamp": float("nan")}),
        ("clamp", {"clamp": float("inf")}),
        ("clamp", {"clamp": "256"}),
        ("clamp", {"clamp": True}),
    ],
)
def test_impossible_settings_are_named(name, settings):
    with pytest.raises(ValueError, match=rf"{name}\b.*expected"):
        GeneratorConfig(**settings)


@pytest.mark.parametrize("shape", [(2, 7), (6,), (1, 2, 6)])
def test_z_of_another_shape_is_refused(shape):
    with pytest.raises(ValueError, match=r"^z: found shape .*, expected \[B, 6\]"):
        tiny_generator().mapping(torch.zeros(shape))


@pytest.mark.parametrize("shape", [(5,), (2, 6), (2, 3, 5), (1, 1, 6, 5)])
def test_w_of_another_shape_is_refused(shape):
    with pytest.raises(ValueError, match=r"^w: found .*, expected \[B, 5\] or \[B, 6, 5\]"):
        tiny_generator().synthesis(torch.zeros(shape))


def test_noise_of_another_form_is_refused():
    G = tiny_generator()
    w, maps = torch.zeros(2, G.w_dim), G.synthesis.noise_maps("random", batch=2)
    wrong_size = [*maps[:-1], torch.zeros(2, 1, 8, 8)]
    wrong_batch = [torch.zeros(3, 1, 4, 4), *maps[1:]]
    for noise in ("constant", maps[:-1], wrong_size, wrong_batch):
        with pytest.raises(ValueError, match=r"^noise: found .*expected"):
            G.synthesis(w, noise=noise)


def test_what_is_kept_of_a_frozen_layer_follows_its_weights() -> None:
    """Energy and low-precision weights are made once, and anew after a change in place or another tensor."""
    layer = SynthesisLayer(4, 5, 8, 8, up=False, clamp=None).requires_grad_(False)
    x, w = torch.randn(2, 4, 8, 8), torch.randn(2, 8)
    first = layer(x, w, None)
    made = dict(layer.kept.made)
    assert torch.equal(layer(x, w, None), first) and layer.kept.made == made
    layer.weight.mul_(torch.linspace(0.5, 2, 4).view(1, 4, 1, 1))
    fresh = SynthesisLayer(4, 5, 8, 8, up=False, clamp=None).requires_grad_(False)
    fresh.load_state_dict(layer.state_dict())
    changed = layer(x, w, None)
    assert torch.equal(changed, fresh(x, w, None)) and not torch.allclose(changed, first)
    layer.weight = torch.nn.Parameter(torch.randn(5, 4, 3, 3), requires_grad=False)
    fresh.load_state_dict(layer.state_dict())
    assert torch.equal(layer(x, w, None), fresh(x, w, None))
    layer.requires_grad_(True)
    layer(x, w, None).square().sum().backward()
    assert layer.weight.grad is not None and layer.weight.grad.abs().sum() > 0
