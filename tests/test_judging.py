"""Judging during training: what is logged and kept, and that training doesn't notice."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from generator.files import discriminator_beside, file_sha256, load_discriminator, read_provenance
from generator.loading import load_generator
from generator.networks import GeneratorConfig, build_discriminator
from training import loop
from training.config import TrainingConfig
from training.dataset import TrainingImages
from training.judging import Judging
from training.loop import train
from training.metrics import evaluate_generator
from training.run_log import RunLog

BATCH = 4
CONFIG = TrainingConfig(
    network=GeneratorConfig(resolution=16, z_dim=4, w_dim=4, mapping_layers=1, channel_base=32, channel_max=4),
    batch=BATCH,
    kimg=6 * BATCH / 1000,
    mbstd_group_size=2,
    augment=("blit",),
    snapshot_kimg=2 * BATCH / 1000,
)
DATA = TrainingImages(np.random.default_rng(0).integers(0, 256, (10, 16, 16, 3), dtype=np.uint8), "d" * 64)
EVERY_TWO_STEPS = Judging(2 * BATCH / 1000, ("swd", "ms_ssim"))


def lines_of(run: Path) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    """Lines of steps, without times, and lines of judgements."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [{k: v for k, v in line.items() if "second" not in k} for line in lines if "loss_d" in line]
    return steps, [line for line in lines if "swd" in line]


@pytest.fixture
def every_step(monkeypatch):
    monkeypatch.setattr(loop, "LOG_STEPS", 1)
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1)


def test_training_is_the_same_to_the_bit_with_and_without_judging(tmp_path, every_step):
    before = torch.get_rng_state()
    train(CONFIG, DATA, tmp_path / "judged", judging=EVERY_TWO_STEPS)
    assert torch.equal(torch.get_rng_state(), before)
    train(CONFIG, DATA, tmp_path / "plain")
    judged, plain = (lines_of(tmp_path / name) for name in ("judged", "plain"))
    assert judged[0] == plain[0] and len(judged[0]) == 6
    assert [line["kimg"] for line in judged[1]] == [0.008, 0.016, 0.024] and not plain[1]
    a, b = (load_generator(tmp_path / name / "generator.safetensors").state_dict() for name in ("judged", "plain"))
    assert all(torch.equal(a[name], b[name]) for name in b)


def test_the_figures_are_those_of_evaluate_and_the_best_is_kept(tmp_path, every_step):
    path = train(CONFIG, DATA, tmp_path, judging=EVERY_TWO_STEPS)
    _, judged = lines_of(tmp_path)
    again = evaluate_generator(load_generator(path), DATA.pixels, ("swd", "ms_ssim"), len(DATA), 0)
    assert {k: judged[-1][k] for k in again} == again
    best = min(judged, key=lambda line: line["swd"])
    provenance = read_provenance(tmp_path / "best.safetensors")
    assert provenance["best"] == {"metric": "swd", "value": best["swd"]} and provenance["kimg"] == best["kimg"]
    kept = load_generator(tmp_path / "best.safetensors")
    assert evaluate_generator(kept, DATA.pixels, ("swd",), len(DATA), 0)["swd"] == best["swd"]
    D = build_discriminator(CONFIG.network, CONFIG.mbstd_group_size, CONFIG.residual_d, label_layers=0)
    load_discriminator(discriminator_beside(tmp_path / "best.safetensors"), D)


def test_a_resumed_run_keeps_the_same_best(tmp_path, every_step, monkeypatch):
    """Figures made up so that the second judgement is the best: judged again after a kill, it is so again."""
    values = {0.008: 3.0, 0.016: 1.0, 0.024: 2.0}
    monkeypatch.setattr(Judging, "judge", lambda self, state, data: {"swd": values[state.images / 1000]})
    train(CONFIG, DATA, tmp_path / "straight", judging=EVERY_TWO_STEPS)

    class Killed(Exception):
        pass

    def kill(state, path, data_sha256):
        if state.step == 4:  # judged, and the checkpoint not written
            raise Killed
        save(state, path, data_sha256)

    from training import run_files

    save = run_files.save_checkpoint
    monkeypatch.setattr(run_files, "save_checkpoint", kill)
    with pytest.raises(Killed):
        train(CONFIG, DATA, tmp_path / "killed", judging=EVERY_TWO_STEPS)
    assert [line["swd"] for line in lines_of(tmp_path / "killed")[1]] == [3.0, 1.0]
    monkeypatch.setattr(run_files, "save_checkpoint", save)
    train(CONFIG, DATA, tmp_path / "killed", judging=EVERY_TWO_STEPS)
    assert lines_of(tmp_path / "killed") == lines_of(tmp_path / "straight")
    a, b = (tmp_path / name / "best.safetensors" for name in ("straight", "killed"))
    assert read_provenance(a)["kimg"] == read_provenance(b)["kimg"] == 0.016
    assert all(torch.equal(t, load_generator(b).state_dict()[n]) for n, t in load_generator(a).state_dict().items())
    assert file_sha256(b) != file_sha256(tmp_path / "killed" / "generator.safetensors")


def test_more_recall_is_better_and_less_distance_is(tmp_path):
    log = RunLog(tmp_path / "metrics.jsonl")
    log.add({"kimg": 1, "recall": 0.5, "fd_vgg16": 10.0})
    log.add({"kimg": 2, "loss_d": 1.0})
    for name, better, worse in (("recall", 0.6, 0.4), ("fd_vgg16", 9.0, 11.0)):
        judging = Judging(1, (name,))
        assert judging.is_best({name: better}, log)
        assert not judging.is_best({name: worse}, log)
        assert not judging.is_best({name: log.lines[0][name]}, log)


@pytest.mark.parametrize(
    ("kimg", "metrics", "message"),
    [
        (0.0, ("swd",), "--evaluate-kimg: found 0.0, expected at least 0.001"),
        (float("nan"), ("swd",), "--evaluate-kimg: found nan"),
        (1.0, ("best",), "metrics: found best, expected some of fid"),
        (1.0, (), "metrics: found none"),
        (1.0, ("fid",), "metrics: found fid without --inception"),
    ],
)
def test_impossible_judging_is_named(kimg, metrics, message):
    with pytest.raises(ValueError, match=message):
        replace(EVERY_TWO_STEPS, kimg=kimg, metrics=metrics)
