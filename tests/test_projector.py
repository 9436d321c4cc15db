"""The projector follows Appendix D, and an image's projection depends on nothing but the image."""

from math import cos, pi, sqrt

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attribution.noise import autocorrelation_penalty, by_layer, draw_noise, layer_resolutions, renormalize_
from attribution.projector import image_seed, latent_statistics, project
from attribution.schedules import ProjectionConfig, learning_rate, w_noise_strength
from attribution.search import LatentStatistics, for_lpips
from generator import LPIPS, Generator, GeneratorConfig

TINY = GeneratorConfig(resolution=16, z_dim=8, w_dim=8, mapping_layers=2, channel_base=128, channel_max=16)


@pytest.fixture(scope="module")
def G() -> Generator:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        G = Generator(TINY)
        for layer in G.synthesis.layers:
            layer.noise_strength.data.fill_(0.05)
    return G.eval().requires_grad_(False)


class PixelMetric:
    """A quick stand-in with LPIPS's interface: squared differences at two scales."""

    def features(self, images: torch.Tensor) -> list[torch.Tensor]:
        return self._of(images)

    def _of(self, images: torch.Tensor) -> list[torch.Tensor]:
        return [images, torch.nn.functional.avg_pool2d(images, 4)]

    def per_layer(
        self, images: torch.Tensor, target: list[torch.Tensor], dtype: torch.dtype | None = None
    ) -> torch.Tensor:
        pairs = zip(self._of(images), target, strict=True)
        return torch.stack([(f - t).square().mean([1, 2, 3]) for f, t in pairs], dim=1)


@pytest.fixture(scope="module")
def metric() -> LPIPS:
    return PixelMetric()  # type: ignore[return-value]


@pytest.fixture(scope="module")
def lpips() -> LPIPS:
    return LPIPS("vgg")


def targets(G: Generator, n: int) -> torch.Tensor:
    z = torch.randn(n, G.z_dim, generator=torch.Generator().manual_seed(1)).to(G.mapping.w_avg.dtype)
    return G.synthesis(G.mapping(z)).clamp(-1, 1)


# Appendix D: 1000 steps, ramp-up over the first 50, ramp-down over the last 250, noise over the first 750.
@pytest.mark.parametrize(
    ("step", "expected"),
    [(0, 0.0), (25, 0.05), (50, 0.1), (500, 0.1), (750, 0.1), (875, 0.05), (950, 0.1 * (0.5 - 0.5 * cos(pi * 0.2)))],
)
def test_learning_rate_at_known_steps(step: int, expected: float) -> None:
    assert learning_rate(step, ProjectionConfig()) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("step", "expected"), [(0, 0.05 * 3), (375, 0.05 * 3 / 4), (750, 0.0), (999, 0.0)])
def test_w_noise_at_known_steps(step: int, expected: float) -> None:
    assert w_noise_strength(step, ProjectionConfig(), sigma_w=3) == pytest.approx(expected, abs=1e-12)


@given(st.integers(20, 500), st.floats(0, 0.999))
def test_schedules_scale_with_the_steps(steps: int, t: float) -> None:
    step = int(t * steps)
    scaled = ProjectionConfig(steps=steps)
    full = ProjectionConfig(steps=steps * 10)
    assert learning_rate(step, scaled) == pytest.approx(learning_rate(step * 10, full))
    assert w_noise_strength(step, scaled, 1) == pytest.approx(w_noise_strength(step * 10, full, 1))


def reference_penalty(maps: list[np.ndarray]) -> float:
    """Appendix D, map by map and pixel by pixel."""
    total = 0.0
    for n in maps:
        while True:
            r = n.shape[0]
            horizontal = sum(n[y, x] * n[y, (x - 1) % r] for y in range(r) for x in range(r)) / r**2
            vertical = sum(n[y, x] * n[(y - 1) % r, x] for y in range(r) for x in range(r)) / r**2
            total += horizontal**2 + vertical**2
            if r <= 8:
                break
            n = n.reshape(r // 2, 2, r // 2, 2).mean((1, 3)) * 2
    return total


def test_noise_penalty_equals_the_definition() -> None:
    counts = layer_resolutions([4, 8, 8, 16, 16, 32, 32])
    images = [draw_noise(counts, torch.Generator().manual_seed(i), torch.float64) for i in range(2)]
    stacks = [torch.stack(s) for s in zip(*images, strict=True)]
    expected = [reference_penalty([m.numpy() for stack in image for m in stack]) for image in images]
    np.testing.assert_allclose(autocorrelation_penalty(stacks).numpy(), expected, rtol=1e-12)


def test_pyramid_keeps_the_variance_of_white_noise() -> None:
    noise = torch.randn(1, 1, 512, 512, generator=torch.Generator().manual_seed(0))
    averaged = torch.nn.functional.avg_pool2d(noise, 2) * 2
    assert averaged.var().item() == pytest.approx(1, abs=0.02)


def test_renormalisation_is_per_image() -> None:
    maps = [
        torch.randn(3, 2, 8, 8, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 5, 9]).view(3, 1, 1, 1)
        + 4
    ]
    alone = [maps[0][1:2].clone()]
    renormalize_(maps)
    renormalize_(alone)
    assert maps[0].mean([2, 3]).abs().max() < 1e-6
    assert (maps[0].var([2, 3], unbiased=False) - 1).abs().max() < 1e-5
    assert torch.equal(maps[0][1:2], alone[0])


def test_maps_reach_their_layers() -> None:
    stacks = [torch.full((2, 1, 4, 4), 0.0), torch.stack([torch.full((2, 8, 8), 1.0)] * 2)]
    assert [tuple(m.shape) for m in by_layer(stacks)] == [(2, 1, 4, 4), (2, 1, 8, 8), (2, 1, 8, 8)]


def test_latent_statistics_are_those_of_w(G: Generator) -> None:
    w = G.mapping.map(torch.randn(20_000, G.z_dim, generator=torch.Generator().manual_seed(9)))
    found = latent_statistics(G)
    spread = sqrt((w - w.mean(0)).square().sum(1).mean().item())
    assert found.sigma == pytest.approx(spread, rel=0.02)
    assert (found.mean - w.mean(0)).norm().item() < 0.05 * spread
    assert torch.equal(latent_statistics(G).mean, found.mean)


def test_projection_finds_a_generated_image(G: Generator, lpips: LPIPS) -> None:
    x = targets(G, 2)
    found = project(G, x, config=ProjectionConfig(steps=40), lpips=lpips, seeds=[3, 4])
    for p in found:
        assert p.lpips < 0.7 * p.lpips_start
        assert p.lpips == pytest.approx(sum(p.lpips_per_layer), rel=1e-5)
        assert len(p.noise) == len(G.synthesis.layers)
        assert all(abs(n.mean()) < 1e-5 and abs(n.var(unbiased=False) - 1) < 1e-4 for n in p.noise)
    again = G.synthesis(
        torch.stack([p.w for p in found]),
        noise=[torch.stack(m)[:, None] for m in zip(*(p.noise for p in found), strict=True)],
    )
    torch.testing.assert_close(torch.stack([p.image for p in found]), again, rtol=0, atol=1e-5)
    torch.testing.assert_close(lpips(again, x), torch.tensor([p.lpips for p in found]), rtol=0, atol=1e-5)


def test_batch_mates_do_not_matter_in_float64(G: Generator) -> None:
    G64, metric = Generator(TINY).double(), LPIPS("vgg").double()
    G64.load_state_dict(G.state_dict())
    G64.requires_grad_(False)
    x, config = targets(G64, 5), ProjectionConfig(steps=50)
    together = project(G64, x, config=config, lpips=metric, seeds=[1, 2, 3, 4, 5])
    alone = project(G64, x[1:2], config=config, lpips=metric, seeds=[2])
    assert together[1].lpips == pytest.approx(alone[0].lpips, abs=1e-6)
    other = project(G64, x[[2, 1]], config=config, lpips=metric, seeds=[9, 2])
    assert other[1].lpips == pytest.approx(alone[0].lpips, abs=1e-6)


def test_batch_of_eight_agrees_with_one(G: Generator, lpips: LPIPS) -> None:
    x, config = targets(G, 8), ProjectionConfig(steps=12)
    together = project(G, x, config=config, lpips=lpips, seeds=list(range(8)))
    alone = project(G, x[5:6], config=config, lpips=lpips, seeds=[5])
    assert together[5].lpips == pytest.approx(alone[0].lpips, abs=1e-3)


def test_target_features_are_computed_once(G: Generator, metric: LPIPS, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    original = metric.features

    def counted(images: torch.Tensor) -> list[torch.Tensor]:
        calls.append(len(images))
        return original(images)

    monkeypatch.setattr(metric, "features", counted)
    project(G, targets(G, 3), config=ProjectionConfig(steps=5), lpips=metric, seeds=[0, 1, 2])
    assert calls == [4]  # filled up to a whole number of fours


def test_same_call_gives_the_same_bits(G: Generator, metric: LPIPS) -> None:
    x, config = targets(G, 2), ProjectionConfig(steps=10)
    first, second = (project(G, x, config=config, lpips=metric, seeds=[0, 1]) for _ in range(2))
    assert [p.lpips for p in first] == [p.lpips for p in second]
    assert torch.equal(first[1].w, second[1].w)
    assert project(G, x, config=config, lpips=metric, seeds=[0, 2])[1].lpips != first[1].lpips


def test_without_regularisation_signal_sneaks_into_the_noise(G: Generator, metric: LPIPS) -> None:
    """StyleGAN2's Figure 8 of the supplement: a lower distance and autocorrelated maps."""
    x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(5)).round() * 2 - 1
    x = torch.nn.functional.avg_pool2d(torch.nn.functional.pad(x, (1, 1, 1, 1), "replicate"), 3, 1)

    def run(weight: float) -> tuple[float, float]:
        found = project(G, x, config=ProjectionConfig(steps=80, noise_weight=weight), lpips=metric, seeds=[0, 1])
        maps = [n for p in found for n in p.noise if n.shape[-1] >= 8]
        return sum(p.lpips for p in found), float(np.mean([(n * n.roll(1, 0)).mean().abs().item() for n in maps]))

    regularised, free = run(1e5), run(0)
    assert free[0] < regularised[0]
    assert free[1] > 2 * regularised[1]


def test_large_images_are_compared_at_256() -> None:
    x = torch.rand(1, 3, 512, 512)
    torch.testing.assert_close(for_lpips(x), torch.nn.functional.avg_pool2d(x, 2))
    assert for_lpips(x[..., :64, :64]).shape[-1] == 64


def test_seeds_depend_on_run_and_pixels() -> None:
    assert image_seed(0, "ab") == image_seed(0, "ab")
    assert len({image_seed(0, "ab"), image_seed(1, "ab"), image_seed(0, "ac")}) == 3


def test_bf16_search_ends_near_fp32(G: Generator, lpips: LPIPS) -> None:
    x = targets(G, 2)
    full = project(G, x, config=ProjectionConfig(steps=20), lpips=lpips, seeds=[0, 1])
    half = project(G, x, config=ProjectionConfig(steps=20, precision="bf16"), lpips=lpips, seeds=[0, 1])
    for a, b in zip(full, half, strict=True):
        assert b.lpips < 0.9 * b.lpips_start
        assert b.lpips == pytest.approx(a.lpips, rel=0.1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps: found 0"),
        ({"steps": 10**6 + 1}, "steps: found 1000001"),
        ({"steps": 3.5}, "steps: found 3.5"),
        ({"noise_weight": -1}, "noise_weight"),
        ({"noise_weight": float("nan")}, "noise_weight: found nan"),
        ({"max_lr": float("inf")}, "max_lr: found inf"),
        ({"rampup": 0}, "rampup: found 0"),
        ({"rampdown": 1.5}, "rampdown: found 1.5"),
        ({"w_noise_until": float("nan")}, "w_noise_until: found nan"),
        ({"beta1": 1.0}, "beta1: found 1.0"),
        ({"beta2": float("nan")}, "beta2: found nan"),
        ({"precision": "fp8"}, "fp32 or bf16"),
    ],
)
def test_bad_settings_are_named(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ProjectionConfig(**change)


def test_targets_of_another_size_are_refused(G: Generator, lpips: LPIPS) -> None:
    statistics = LatentStatistics(torch.zeros(1, 8), 1.0)
    with pytest.raises(ValueError, match="targets: found"):
        project(
            G,
            torch.zeros(1, 3, 32, 32),
            config=ProjectionConfig(steps=1),
            lpips=lpips,
            seeds=[0],
            statistics=statistics,
        )
