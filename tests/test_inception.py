"""The Inception network from a local file: torch-fidelity's own figures, and files that are none."""

import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from torch_fidelity import FeatureExtractorInceptionV3, metric_fid, metric_isc, metric_kid

from generator.networks import Generator, GeneratorConfig
from generator.sampling import derive_seed, sample_images
from training import inception, metrics
from training.inception import load_inception
from training.metrics import evaluate_generator


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """Random numbers under the published file's names and shapes, which are torchvision's."""
    rng = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        shapes = torchvision.models.inception_v3(num_classes=1008, aux_logits=False, init_weights=False).state_dict()
    numbers = {}
    for name, tensor in shapes.items():
        if tensor.ndim > 1:  # of a size that lets the image's contrast through
            numbers[name] = torch.randn(tensor.shape, generator=rng) * (2 / tensor[0].numel()) ** 0.5
        elif tensor.is_floating_point():
            numbers[name] = (
                torch.ones(tensor.shape) if name.endswith(("var", "bn.weight")) else torch.zeros(tensor.shape)
            )
        else:
            numbers[name] = torch.zeros(tensor.shape, dtype=tensor.dtype)
    path = tmp_path_factory.mktemp("inception") / "pt_inception.pth"
    torch.save(numbers, path)
    return path


@pytest.mark.slow
def test_features_are_those_of_torch_fidelitys_network(weights, monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    monkeypatch.setattr(inception, "BATCH", 2)
    found = load_inception(weights)(images)
    network = FeatureExtractorInceptionV3("reference", ["2048", "logits_unbiased"], str(weights))
    expected = network(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
    assert [x.shape for x in found] == [(3, 2048), (3, 1008)]
    assert expected[0].std() > 0.1
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-3, atol=1e-4)


def halves(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Stands in for the network: features and logits of the images' halves."""
    left, right = images[:, :, :4].mean(axis=(1, 2)), images[:, :, 4:].mean(axis=(1, 2))
    return np.concatenate([left, right], axis=1).astype(np.float32), (left / 50).astype(np.float32)


def test_fid_kid_and_is_are_torch_fidelitys_of_the_same_features(tmp_path, monkeypatch):
    """Kernel and score with the samples as its first set, as its own command has them."""
    monkeypatch.setattr(metrics, "load_inception", lambda path, device: halves)
    weights = tmp_path / "inception.pth"
    weights.write_bytes(b"weights")
    G = Generator(GeneratorConfig(resolution=8, z_dim=4, w_dim=4, mapping_layers=1, channel_base=16, channel_max=2))
    real = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 3), dtype=np.uint8)
    found = evaluate_generator(G.eval(), real, ["fid", "kid", "is"], 20, 3, weights, tmp_path / "cache")
    features, logits = halves(sample_images(G, [derive_seed("evaluate", 3, i) for i in range(20)]))
    fake, others = torch.from_numpy(features).double(), torch.from_numpy(halves(real)[0]).double()
    statistics = [metric_fid.fid_features_to_statistics(x) for x in (fake, others)]
    kid = metric_kid.kid_features_to_metric(fake, others, kid_subset_size=8, rng_seed=3, verbose=False)
    score = metric_isc.isc_features_to_metric(torch.from_numpy(logits), splits=10, rng_seed=3)
    assert found == pytest.approx(
        {
            "fid": metric_fid.fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"],
            "kid": kid["kernel_inception_distance_mean"],
            "kid_std": kid["kernel_inception_distance_std"],
            "is": score["inception_score_mean"],
            "is_std": score["inception_score_std"],
        },
        rel=1e-6,
    )
    assert list(found) == ["fid", "kid", "kid_std", "is", "is_std"]


def test_a_file_that_would_run_a_program_does_not(tmp_path):
    class Program:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    path = tmp_path / "inception.pth"
    torch.save({"fc.weight": Program()}, path)
    with pytest.raises(ValueError, match=r"inception\.pth: found no file of tensors .* expected the 2015 InceptionV3"):
        load_inception(path)
    path.write_bytes(pickle.dumps(Program()))
    with pytest.raises(ValueError, match=r"inception\.pth: found no file of tensors"):
        load_inception(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file, expected"),
        (b"", "found no file of tensors"),
        (b"hello", "found no file of tensors"),
        ([1, 2], "found a list that does not consist of named tensors"),
        ({"fc.weight": 3}, "found a dict that does not consist of named tensors"),
        ({1: torch.zeros(2)}, "found a dict that does not consist of named tensors"),
        ({"fc.weight": torch.full((2,), torch.nan)}, "found numbers that are not finite"),
        ({"fc.weight": torch.zeros(2)}, "found tensors of another network"),
    ],
)
def test_what_is_no_inception_network_is_named(tmp_path, content, message):
    path = tmp_path / "inception.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(ValueError, match=rf"inception\.pth: {message}") as caught:
        load_inception(path)
    assert "\n" not in str(caught.value)


def test_a_torchscript_program_is_refused(tmp_path):
    path = tmp_path / "inception.pt"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("constants.pkl", "data.pkl", "version", "code/__torch__.py"):
            archive.writestr(f"inception/{name}", pickle.dumps(0))
    with pytest.raises(ValueError, match=r"inception\.pt: found no file of tensors"):
        load_inception(path)
