"""LPIPS gives the numbers of the lpips package, and the gradients of its formula."""

import lpips
import pytest
import torch
from safetensors.torch import load_file

from generator import LPIPS
from generator.features import FEATURES, WEIGHTS, FeatureNetwork


@pytest.fixture(scope="module", params=["vgg", "alex"])
def pair(request: pytest.FixtureRequest) -> tuple[LPIPS, torch.nn.Module]:
    net = request.param
    with pytest.warns(UserWarning):  # torchvision's, on the arguments the lpips package passes
        reference = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
    reference.load_state_dict(load_file(WEIGHTS / FEATURES[net].file), strict=False)
    return LPIPS(net), reference


def images(seed: int, n: int = 3) -> torch.Tensor:
    return torch.rand(n, 3, 64, 64, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_equals_the_lpips_package(pair: tuple[LPIPS, torch.nn.Module]) -> None:
    ours, reference = pair
    a, b = images(0), images(1)
    near = (a + 0.05 * b).clamp(-1, 1)
    for other in (b, near):
        torch.testing.assert_close(ours(a, other), reference(a, other).flatten(), rtol=0, atol=1e-6)


def test_layers_add_up_to_the_package_s_layers(pair: tuple[LPIPS, torch.nn.Module]) -> None:
    ours, reference = pair
    a, b = images(2), images(3)
    _, layers = reference(a, b, retPerLayer=True)
    expected = torch.stack([layer.flatten() for layer in layers], dim=1)
    torch.testing.assert_close(ours.per_layer(a, ours.features(b)), expected, rtol=0, atol=1e-6)


def test_gradient_equals_the_package_s(pair: tuple[LPIPS, torch.nn.Module]) -> None:
    ours, reference = pair
    a, b = images(4, 2).requires_grad_(), images(5, 2)
    (expected,) = torch.autograd.grad(reference(a, b).sum(), a)
    (found,) = torch.autograd.grad(ours(a, b).sum(), a)
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()


def test_gradient_equals_finite_differences() -> None:
    metric = LPIPS("vgg").double()
    a, b = images(6, 1).double()[..., :16, :16].requires_grad_(), images(7, 1).double()[..., :16, :16]
    direction = images(8, 1).double()[..., :16, :16]
    (gradient,) = torch.autograd.grad(metric(a, b).sum(), a)
    step = 1e-6
    difference = (metric(a + step * direction, b) - metric(a - step * direction, b)) / (2 * step)
    assert (gradient * direction).sum().item() == pytest.approx(difference.item(), rel=1e-5)


def test_identical_images_have_distance_zero(pair: tuple[LPIPS, torch.nn.Module]) -> None:
    ours, _ = pair
    a = images(9)
    assert ours(a, a).abs().max() < 1e-12


def test_bf16_features_change_little(pair: tuple[LPIPS, torch.nn.Module]) -> None:
    ours, _ = pair
    a, b = images(10), images(11)
    target = [t.bfloat16() for t in ours.features(b)]
    found = ours.per_layer(a, target, torch.bfloat16).sum(1)
    torch.testing.assert_close(found.float(), ours(a, b), rtol=0.02, atol=0)


def test_unknown_network_is_named() -> None:
    with pytest.raises(ValueError, match="lpips: found 'squeeze', expected one of vgg, alex"):
        LPIPS("squeeze")


def test_too_small_images_are_named() -> None:
    with pytest.raises(ValueError, match="found images of 16x16, expected at least 31"):
        LPIPS("alex")(images(0)[..., :16, :16], images(1)[..., :16, :16])


def test_damaged_weights_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    from generator import features

    (tmp_path / FEATURES["alex"].file).write_bytes((WEIGHTS / FEATURES["alex"].file).read_bytes()[:-1] + b"\0")
    monkeypatch.setattr(features, "WEIGHTS", tmp_path)
    with pytest.raises(ValueError, match="reinstall latentprint"):
        FeatureNetwork("alex")
