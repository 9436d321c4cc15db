"""The training loop: the same command again resumes to the bit, and training learns."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from generator import load_generator
from generator.files import discriminator_beside, file_sha256, load_discriminator, read_provenance
from generator.loading import open_generator
from generator.networks import GeneratorConfig, build_discriminator
from training import loop, step
from training.augment import BGC, CATEGORIES
from training.config import TrainingConfig
from training.dataset import TrainingImages
from training.loop import train
from training.state import TrainingState
from training.step import train_step
from training.transfer import start_from

BATCH = 4
CONFIG = TrainingConfig(
    network=GeneratorConfig(resolution=8, z_dim=4, w_dim=4, mapping_layers=1, channel_base=32, channel_max=4),
    batch=BATCH,
    kimg=6 * BATCH / 1000,
    gamma=0.5,
    r1_interval=2,
    path_length_interval=2,
    style_mixing=0.5,
    mbstd_group_size=2,
    x_flip=True,
    snapshot_kimg=3 * BATCH / 1000,
)
DATA = TrainingImages(np.random.default_rng(0).integers(0, 256, (10, 8, 8, 3), dtype=np.uint8), "d" * 64)


class Killed(Exception):
    """What stops a run in the middle of a test."""


def lines_of_steps(run: Path) -> list[dict[str, Any]]:
    """The log without the lines of snapshots."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "loss_d" in line]


def kill_at(images: int):
    def on_progress(progress: loop.Progress) -> None:
        if progress.images >= images:
            raise Killed

    return on_progress


@pytest.fixture
def busy_loop(monkeypatch):
    """Log and write a checkpoint at every step."""
    monkeypatch.setattr(loop, "LOG_STEPS", 1)
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1)


def assert_same_network(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_killed_run_goes_on_to_the_same_bits(tmp_path, busy_loop, precision):
    config = replace(CONFIG, precision=precision)
    straight = load_generator(train(config, DATA, tmp_path / "straight"))

    with pytest.raises(Killed):
        train(config, DATA, tmp_path / "killed", on_progress=kill_at(4 * BATCH))  # before its fourth checkpoint
    record = torch.load(tmp_path / "killed" / "checkpoint.pt", weights_only=True)
    assert record["state"]["step"] == 3
    resumed = load_generator(train(config, DATA, tmp_path / "killed"))
    assert_same_network(resumed.state_dict(), straight.state_dict())


def test_a_finished_run_goes_on_when_more_images_are_asked_for(tmp_path):
    straight = load_generator(train(CONFIG, DATA, tmp_path / "straight"))
    train(replace(CONFIG, kimg=3 * BATCH / 1000), DATA, tmp_path / "longer")
    first = torch.load(tmp_path / "longer" / "checkpoint.pt", weights_only=True)
    assert first["state"]["step"] == 3
    longer = load_generator(train(CONFIG, DATA, tmp_path / "longer"))
    assert_same_network(longer.state_dict(), straight.state_dict())


def test_seeds_give_different_runs_and_leave_the_callers_randomness_alone(tmp_path):
    before = torch.get_rng_state()
    a, b = (train(replace(CONFIG, seed=seed), DATA, tmp_path / str(seed)) for seed in (0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(load_generator(a).synthesis.const, load_generator(b).synthesis.const)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "was made with seed 0, found 1 now"),
        ({"lr": 0.001}, "was made with lr 0.002, found 0.001 now"),
        ({"augment": ("blit",)}, r"was made with augment \(\), found \('blit',\) now"),
        ({"network": replace(CONFIG.network, z_dim=5)}, "was made with network .* found .*'z_dim': 5"),
    ],
)
def test_other_settings_are_refused(tmp_path, change, message):
    train(replace(CONFIG, kimg=BATCH / 1000), DATA, tmp_path)
    with pytest.raises(ValueError, match=rf"checkpoint\.pt: {message}"):
        train(replace(CONFIG, **change), DATA, tmp_path)


def test_other_images_are_refused(tmp_path):
    train(replace(CONFIG, kimg=BATCH / 1000), DATA, tmp_path)
    with pytest.raises(ValueError, match=r"checkpoint\.pt: was made with other images .SHA-256 dddddddddddd, now eeee"):
        train(CONFIG, replace(DATA, sha256="e" * 64), tmp_path)


def test_a_damaged_checkpoint_is_named(tmp_path):
    train(replace(CONFIG, kimg=BATCH / 1000), DATA, tmp_path)
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"checkpoint\.pt: found no readable checkpoint"):
        train(CONFIG, DATA, tmp_path)
    torch.save({"format": "other"}, path)
    with pytest.raises(
        ValueError, match=r"checkpoint\.pt: found another kind of file, expected a latentprint.checkpoint/2"
    ):
        train(CONFIG, DATA, tmp_path)


def test_files_of_a_run(tmp_path, busy_loop):
    seen: list[loop.Progress] = []
    path = train(CONFIG, DATA, tmp_path, on_progress=seen.append)

    assert path == tmp_path / "generator.safetensors"
    assert load_generator(path).config == CONFIG.network
    provenance = read_provenance(path)
    assert provenance["data_sha256"] == DATA.sha256 and provenance["kimg"] == 0.024
    assert provenance["training"]["gamma"] == 0.5
    assert {p.name for p in tmp_path.iterdir()} == {
        "checkpoint.pt",
        "contributions.svg",
        "generator.safetensors",
        "generator.discriminator.safetensors",
        "metrics.jsonl",
        "samples-000000.png",
        "snapshots",
    }  # and nothing half-written
    with Image.open(io.BytesIO((tmp_path / "samples-000000.png").read_bytes())) as samples:
        assert samples.size == (64, 64)  # 8 x 8 images of 8 x 8

    lines = lines_of_steps(tmp_path)
    assert [line["kimg"] for line in lines] == [0.004, 0.008, 0.012, 0.016, 0.02, 0.024]
    snapshots = [
        line for line in map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines()) if "loss_d" not in line
    ]
    assert [line["kimg"] for line in snapshots] == [0.012, 0.024]
    assert all(line.keys() == {"kimg", "contribution_4", "contribution_8"} for line in snapshots)
    assert all({"loss_d", "loss_g", "r_t", "images_per_second"} <= line.keys() for line in lines)
    assert ["r1" in line for line in lines] == [True, False] * 3  # lazy: every second step
    assert ["path_length_penalty" in line for line in lines] == [True, False] * 3
    assert [progress.images for progress in seen] == [BATCH * i for i in range(1, 7)]
    assert seen[-1].total == 6 * BATCH


def test_metrics_are_the_means_of_the_steps_that_had_them(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "LOG_STEPS", 1)
    train(CONFIG, DATA, tmp_path / "each")
    monkeypatch.setattr(loop, "LOG_STEPS", 3)
    train(CONFIG, DATA, tmp_path / "three")
    each, three = (lines_of_steps(tmp_path / name) for name in ("each", "three"))
    assert len(three) == 2
    assert three[0]["loss_g"] == pytest.approx(np.mean([line["loss_g"] for line in each[:3]]), abs=2e-6)
    assert three[0]["r1"] == pytest.approx((each[0]["r1"] + each[2]["r1"]) / 2, abs=2e-6)


def test_a_log_without_a_checkpoint_is_begun_again(tmp_path):
    """A run that was killed before its first checkpoint starts anew, and what it logged is logged once."""
    (tmp_path / "metrics.jsonl").write_text('{"kimg": 0.004, "loss_g": 1.0}\n')
    (tmp_path / ".metrics.jsonl.17.partial").write_text('{"kimg')
    train(CONFIG, DATA, tmp_path)
    (line,) = lines_of_steps(tmp_path)
    assert line["kimg"] == 0.024
    assert not list(tmp_path.glob(".*"))


def test_a_line_covers_the_same_steps_whenever_its_run_was_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "LOG_STEPS", 3)
    train(CONFIG, DATA, tmp_path / "straight")
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1)
    steps = iter(range(5))

    def five_steps(state, data):
        if next(steps, None) is None:
            raise Killed
        return train_step(state, data)

    monkeypatch.setattr(loop, "train_step", five_steps)
    with pytest.raises(Killed):
        train(CONFIG, DATA, tmp_path / "killed")
    assert checkpoint_of(tmp_path / "killed")["step"] == 5  # between two lines
    monkeypatch.setattr(loop, "train_step", train_step)
    train(CONFIG, DATA, tmp_path / "killed")
    straight, killed = (lines_of_steps(tmp_path / name) for name in ("straight", "killed"))
    for a, b in zip(straight, killed, strict=True):
        times = ("seconds", "images_per_second")
        assert {k: v for k, v in a.items() if k not in times} == {k: v for k, v in b.items() if k not in times}


@pytest.mark.parametrize("damage", ["[1]", "{}", '{"kimg": "1"}', '{"kimg": 0.0', "hello"])
def test_a_damaged_log_is_named(tmp_path, damage):
    (tmp_path / "metrics.jsonl").write_text(f'{{"kimg": 0.004}}\n{damage}\n')
    with pytest.raises(ValueError, match=r"metrics\.jsonl: found .* in line 2, expected a JSON object with kimg"):
        train(CONFIG, DATA, tmp_path)


def test_a_step_trains_both_networks_and_moves_the_averages():
    state = TrainingState(CONFIG)
    before = {name: p.clone() for name, p in (*state.G.named_parameters(), *state.D.named_parameters())}
    train_step(state, DATA)
    assert state.step == 1 and state.images == BATCH
    for name, p in (*state.G.named_parameters(), *state.D.named_parameters()):
        assert p.requires_grad and p.grad is None, name
        assert not torch.equal(p, before[name]), name
    assert state.G.mapping.w_avg.any() and state.path_length_mean > 0
    assert torch.equal(state.G_ema.mapping.w_avg, state.G.mapping.w_avg)


@pytest.mark.parametrize(("optimizer", "setting"), [("opt_D", "r1_interval"), ("opt_G", "path_length_interval")])
def test_a_lazy_regulariser_weighs_as_much_as_if_it_ran_every_step(monkeypatch, optimizer, setting):
    """StyleGAN2, Appendix B: run every k steps, it is multiplied by k."""

    def last_gradients(interval: int) -> list[torch.Tensor]:
        changed: dict[str, Any] = {setting: interval, "lr": 0.0}
        state = TrainingState(replace(CONFIG, **changed))  # lr 0: the same networks for both
        trained, gradients = getattr(state, optimizer), []

        def record() -> None:
            gradients.append(
                [p.grad.clone() for group in trained.param_groups for p in group["params"] if p.grad is not None]
            )

        monkeypatch.setattr(trained, "step", record)
        train_step(state, DATA)
        assert len(gradients) == 2  # the loss, then its regulariser
        return gradients[-1]

    for four, one in zip(last_gradients(4), last_gradients(1), strict=True):
        torch.testing.assert_close(four, 4 * one)


WHITE = TrainingImages(np.full((8, 8, 8, 3), 255, np.uint8), "w" * 64)
SIMPLE = replace(CONFIG, x_flip=False, style_mixing=0, r1_interval=16, path_length=0)


@torch.no_grad()
def samples(state: TrainingState) -> torch.Tensor:
    return state.G_ema(torch.randn(16, 4, generator=torch.Generator().manual_seed(0)))


def test_the_discriminator_learns_to_tell_white_from_a_generator_that_stands_still():
    state = TrainingState(replace(SIMPLE, lr=0.01))
    state.opt_G.param_groups[0]["lr"] = 0.0
    losses = [train_step(state, WHITE)["loss_d"] for _ in range(30)]
    assert losses[-1] < 0.5 * losses[0]
    with torch.no_grad():
        assert state.D(torch.ones(16, 3, 8, 8)).min() > state.D(samples(state)).max()


def test_the_generator_learns_white():
    state = TrainingState(replace(SIMPLE, lr=0.02))
    before = samples(state).mean().item()
    for _ in range(60):
        train_step(state, WHITE)
    assert abs(samples(state).mean().item() - 1) < 0.5 * abs(before - 1)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("batch", {"batch": 0}),
        ("kimg", {"kimg": 0}),
        ("kimg", {"kimg": 0.0005}),
        ("seed", {"seed": -1}),
        ("kimg", {"kimg": float("nan")}),
        ("kimg", {"kimg": float("inf")}),
        ("snapshot_kimg", {"snapshot_kimg": 0}),
        ("warmup_kimg", {"warmup_kimg": -1}),
        ("warmup_kimg", {"warmup_kimg": float("nan")}),
        ("ada_kimg", {"ada_kimg": 0}),
        ("ema_kimg", {"ema_kimg": 0}),
        ("lr", {"lr": -0.1}),
        ("ada_interval", {"ada_interval": 0}),
        ("augment", {"augment": ("blit", "color")}),
        ("precision", {"precision": "fp16"}),
        ("r1_interval", {"r1_interval": 0}),
    ],
)
def test_impossible_settings_are_named(name, change):
    with pytest.raises(ValueError, match=rf"^{name}: found .* expected"):
        replace(CONFIG, **change)


# --- what is no number


def spoil_at(monkeypatch, step_number: int, spoil) -> None:
    """Let something happen to the state before a step is taken."""

    def spoiled(state, data):
        if state.step == step_number:
            with torch.no_grad():
                spoil(state)
        return train_step(state, data)

    monkeypatch.setattr(loop, "train_step", spoiled)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops_the_run(tmp_path, busy_loop, monkeypatch, value):
    spoil_at(monkeypatch, 3, lambda state: state.D.out.bias.fill_(value))
    with pytest.raises(FloatingPointError) as stop:
        train(CONFIG, DATA, tmp_path)
    message = str(stop.value)
    assert message.startswith("step 4 (0.016 kimg): found loss_d ")
    assert message.endswith(f"the last good checkpoint is {tmp_path / 'checkpoint.pt'}, of step 3")
    assert checkpoint_of(tmp_path)["step"] == 3
    assert [line["kimg"] for line in lines_of_steps(tmp_path)] == [0.004, 0.008, 0.012]
    load_generator(tmp_path / "generator.safetensors")  # refuses a file with NaN in it

    monkeypatch.setattr(loop, "train_step", train_step)  # and the run goes on where it was good
    straight = load_generator(train(CONFIG, DATA, tmp_path / "straight"))
    assert_same_network(load_generator(train(CONFIG, DATA, tmp_path)).state_dict(), straight.state_dict())


def test_a_weight_that_is_no_number_is_not_written(tmp_path, busy_loop, monkeypatch):
    """Noise strengths of a generator that has just gone wrong: the losses of that step were still numbers."""

    def step_that_breaks(state, data):
        figures = train_step(state, data)
        if state.step == 2:
            state.opt_G.state[state.G.synthesis.const]["exp_avg_sq"].fill_(float("nan"))
        return figures

    monkeypatch.setattr(loop, "train_step", step_that_breaks)
    with pytest.raises(
        FloatingPointError, match=r"^step 2 .* NaN or infinity in opt_G\.state.*exp_avg_sq.* of step 1$"
    ):
        train(CONFIG, DATA, tmp_path)
    assert checkpoint_of(tmp_path)["step"] == 1


def test_a_run_that_fails_at_once_has_the_checkpoint_of_its_start(tmp_path, monkeypatch):
    spoil_at(monkeypatch, 0, lambda state: state.G.synthesis.const.fill_(float("nan")))
    with pytest.raises(
        FloatingPointError, match=r"^step 1 .*loss_d nan, expected finite numbers; the last good .*, of step 0$"
    ):
        train(CONFIG, DATA, tmp_path)
    assert checkpoint_of(tmp_path)["step"] == 0


def test_a_folder_belongs_to_a_run_from_its_start(tmp_path):
    with pytest.raises(Killed):
        train(CONFIG, DATA, tmp_path, on_progress=kill_at(0))
    with pytest.raises(ValueError, match=r"checkpoint\.pt: was made with gamma"):
        train(replace(CONFIG, gamma=7), DATA, tmp_path)


def test_a_run_that_is_asked_to_stop_goes_on_from_its_last_step(tmp_path):
    straight = load_generator(train(CONFIG, DATA, tmp_path / "straight"))
    answers = iter([False, False, True])
    with pytest.raises(KeyboardInterrupt):
        train(CONFIG, DATA, tmp_path / "stopped", stop=lambda: next(answers))
    assert checkpoint_of(tmp_path / "stopped")["step"] == 3
    resumed = load_generator(train(CONFIG, DATA, tmp_path / "stopped"))
    assert_same_network(resumed.state_dict(), straight.state_dict())


def test_progress_is_said_at_every_step_and_the_log_is_by_images(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "LOG_IMAGES", 2 * BATCH)
    seen: list[loop.Progress] = []
    train(CONFIG, DATA, tmp_path, on_progress=seen.append)
    steps = round(CONFIG.kimg * 1000 / BATCH)
    assert [p.images for p in seen] == [BATCH * (i + 1) for i in range(steps)]
    assert all(p.images_per_second > 0 for p in seen)
    assert len(lines_of_steps(tmp_path)) == -(-steps // 2)


# --- adaptive augmentation

# p rises at every second step, whatever D says, and quickly
RISING = replace(CONFIG, augment=CATEGORIES, ada_interval=2, ada_target=-2, ada_kimg=0.04)


def checkpoint_of(out) -> dict[str, Any]:
    return torch.load(out / "checkpoint.pt", weights_only=True)["state"]


def test_a_killed_run_with_augmentation_goes_on_to_the_same_bits(tmp_path, busy_loop):
    train(RISING, DATA, tmp_path / "straight")
    with pytest.raises(Killed):
        train(RISING, DATA, tmp_path / "killed", on_progress=kill_at(4 * BATCH))
    halfway = checkpoint_of(tmp_path / "killed")
    assert halfway["p"] == 0.2 and len(halfway["signs"]) == 1  # between two adjustments
    train(RISING, DATA, tmp_path / "killed")

    straight, resumed = checkpoint_of(tmp_path / "straight"), checkpoint_of(tmp_path / "killed")
    for network in ("G", "D", "G_ema"):
        assert_same_network(resumed[network], straight[network])
    assert resumed["p"] == straight["p"] == pytest.approx(0.6) and resumed["signs"] == straight["signs"] == []
    for name in ("straight", "killed"):
        lines = lines_of_steps(tmp_path / name)
        assert [line["p"] for line in lines] == [0, 0, 0.2, 0.2, 0.4, 0.4]


def test_p_follows_the_mean_sign_of_four_batches():
    state = TrainingState(replace(CONFIG, augment=BGC, ada_interval=4, ada_target=0.6, ada_kimg=0.1))
    up, down = [0.5, 0.5, 0.5, 1.0], [1.0, 1.0, 1.0, -0.75]  # means 0.625 and 0.5625
    found = []
    for sign in up + up + down:
        step._adjust_augmentation(state, sign)
        found.append(state.p)
    change = 4 * BATCH / 100
    assert found == pytest.approx([0] * 3 + [change] * 4 + [2 * change] * 4 + [change])


def test_everything_that_the_discriminator_sees_is_augmented(monkeypatch):
    seen = []

    def watched(images, p, rng, categories, rows, whole):
        seen.append((p, categories, images.requires_grad))
        return images

    monkeypatch.setattr(step, "augment", watched)
    state = TrainingState(replace(CONFIG, augment=("colour",)))
    state.p = 0.25
    train_step(state, DATA)
    assert seen == [(0.25, ("colour",), grad) for grad in (False, False, True)]  # real, generated; G's


def test_augmentation_of_strength_0_changes_nothing_and_of_more_changes_both_networks():
    plain, none, some = TrainingState(CONFIG), *(TrainingState(replace(CONFIG, augment=BGC)) for _ in range(2))
    some.p = 0.9
    for state in (plain, none, some):
        train_step(state, DATA)
    for a, b, c in ((plain.G, none.G, some.G), (plain.D, none.D, some.D)):
        assert_same_network(a.state_dict(), b.state_dict())
        assert any(not torch.equal(p, q) for p, q in zip(a.parameters(), c.parameters(), strict=True))


# --- transfer


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    """A generator file with its discriminator."""
    return train(replace(CONFIG, seed=5), DATA, tmp_path_factory.mktemp("parent"))


def test_a_run_takes_over_the_generator_and_its_discriminator(parent):
    state = TrainingState(CONFIG)
    start_from(state, open_generator(parent))
    given = load_generator(parent).state_dict()
    assert_same_network(state.G.state_dict(), given)
    assert_same_network(state.G_ema.state_dict(), given)
    D = build_discriminator(CONFIG.network, CONFIG.mbstd_group_size)
    load_discriminator(discriminator_beside(parent), D)
    assert_same_network(state.D.state_dict(), D.state_dict())
    assert all(p.requires_grad for p in (*state.G.parameters(), *state.D.parameters()))
    assert not any(p.requires_grad for p in state.G_ema.parameters())
    train_step(state, DATA)


def test_a_run_without_a_discriminator_file_starts_a_new_one(parent, tmp_path):
    alone = tmp_path / "alone.safetensors"
    alone.write_bytes(parent.read_bytes())
    state = TrainingState(CONFIG)
    start_from(state, open_generator(alone))
    assert_same_network(state.G.state_dict(), load_generator(parent).state_dict())
    assert_same_network(state.D.state_dict(), TrainingState(CONFIG).D.state_dict())


def test_path_lengths_start_at_what_the_generator_has(parent):
    """Averaged over many of the first lengths, by steps that don't train."""
    state = TrainingState(replace(CONFIG, lr=0.0, path_length_interval=1, style_mixing=0))
    start_from(state, open_generator(parent))
    first = state.path_length_mean.item()
    lengths = [train_step(state, DATA)["path_length"] for _ in range(20)]
    assert first == pytest.approx(np.mean(lengths), rel=0.25)
    without = TrainingState(replace(CONFIG, path_length=0))
    start_from(without, open_generator(parent))
    assert without.path_length_mean == 0


def test_a_run_from_a_file_resumes_to_the_same_bits_and_names_its_parent(parent, tmp_path, busy_loop):
    config = replace(RISING, warmup_kimg=2 * BATCH / 1000)
    straight = train(config, DATA, tmp_path / "straight", init=parent)
    with pytest.raises(Killed):
        train(config, DATA, tmp_path / "killed", init=parent, on_progress=kill_at(3 * BATCH))
    assert checkpoint_of(tmp_path / "killed")["step"] == 2
    resumed = train(config, DATA, tmp_path / "killed", init=parent)
    assert_same_network(load_generator(resumed).state_dict(), load_generator(straight).state_dict())

    fresh = load_generator(train(config, DATA, tmp_path / "fresh"))
    assert not torch.equal(fresh.synthesis.const, load_generator(straight).synthesis.const)
    assert read_provenance(straight)["training"]["parent_sha256"] == file_sha256(parent)
    assert read_provenance(tmp_path / "fresh" / "generator.safetensors")["training"]["parent_sha256"] == ""
    made, before = read_provenance(straight), read_provenance(parent)
    assert made["parent"] == {"sha256": file_sha256(parent), "kimg": before["kimg"], "seconds": before["seconds"]}
    grandchild = train(replace(config, seed=1), DATA, tmp_path / "grandchild", init=straight)
    assert read_provenance(grandchild)["parent"]["kimg"] == pytest.approx(made["kimg"] + before["kimg"])
    with pytest.raises(ValueError, match=rf"checkpoint\.pt: was made with parent_sha256 {file_sha256(parent)}, found"):
        train(config, DATA, tmp_path / "straight")


def test_a_warm_up_trains_the_discriminator_alone(parent):
    state = TrainingState(replace(CONFIG, warmup_kimg=2 * BATCH / 1000))
    start_from(state, open_generator(parent))
    G, D = ({k: v.clone() for k, v in network.state_dict().items()} for network in (state.G, state.D))
    for _ in range(2):
        assert "loss_g" not in train_step(state, DATA)
        assert_same_network(state.G.state_dict(), G)
        assert_same_network(state.G_ema.state_dict(), G)
        assert not state.opt_G.state
    assert all(not torch.equal(p, D[name]) for name, p in state.D.named_parameters())
    assert "loss_g" in train_step(state, DATA)
    assert all(not torch.equal(p, G[name]) for name, p in state.G.named_parameters())


# --- Freeze-D

LARGER = replace(
    CONFIG,
    network=replace(CONFIG.network, resolution=16, channel_base=64),
    warmup_kimg=BATCH / 1000,
)
DATA_16 = TrainingImages(np.random.default_rng(0).integers(0, 256, (10, 16, 16, 3), dtype=np.uint8), "e" * 64)


@pytest.fixture(scope="module")
def larger_parent(tmp_path_factory):
    return train(replace(LARGER, kimg=BATCH / 1000), DATA_16, tmp_path_factory.mktemp("larger"))


@pytest.mark.parametrize(("freeze", "frozen"), [(1, ("from_rgb.", "blocks.0.")), (2, ("from_rgb.", "blocks."))])
def test_frozen_layers_stay_and_the_others_learn(larger_parent, freeze, frozen):
    state = TrainingState(replace(LARGER, freeze_d=freeze))
    start_from(state, open_generator(larger_parent))
    before = {name: p.clone() for name, p in state.D.named_parameters()}
    for _ in range(3):  # with R1, with and without a step of G
        figures = train_step(state, DATA_16)
    assert "loss_g" in figures and "r1" in figures
    for name, p in state.D.named_parameters():
        assert torch.equal(p, before[name]) == name.startswith(frozen), name
    # ADA, Appendix D.2: k = 10 frozen layers are the 3 highest resolutions, k = 13 are 4
    assert sum(name.endswith("weight") for name in before if name.startswith(frozen)) == 1 + 3 * freeze


def test_a_frozen_run_goes_on_to_the_same_bits(larger_parent, tmp_path, busy_loop):
    config = replace(LARGER, freeze_d=1, kimg=5 * BATCH / 1000)
    straight = train(config, DATA_16, tmp_path / "straight", init=larger_parent)
    with pytest.raises(Killed):
        train(config, DATA_16, tmp_path / "killed", init=larger_parent, on_progress=kill_at(4 * BATCH))
    resumed = train(config, DATA_16, tmp_path / "killed", init=larger_parent)
    assert_same_network(load_generator(resumed).state_dict(), load_generator(straight).state_dict())
    assert_same_network(checkpoint_of(tmp_path / "killed")["D"], checkpoint_of(tmp_path / "straight")["D"])


def test_freezing_needs_a_discriminator(larger_parent, tmp_path):
    alone = tmp_path / "alone.safetensors"
    alone.write_bytes(larger_parent.read_bytes())
    config = replace(LARGER, freeze_d=1)
    message = (
        r"^--freeze-d: found no discriminator in .*alone\.safetensors .* expected alone\.discriminator\.safetensors"
    )
    with pytest.raises(ValueError, match=message):
        train(config, DATA_16, tmp_path / "run", init=alone)
    with pytest.raises(ValueError, match=r"^--freeze-d: found 1 without --init"):
        train(config, DATA_16, tmp_path / "run")
    with pytest.raises(ValueError, match=r"^freeze_d: found 3, expected 0 to 2"):
        replace(LARGER, freeze_d=3)


# --- transfer, refused


def test_a_generator_of_another_configuration_is_refused(parent, tmp_path):
    other = replace(CONFIG, network=replace(CONFIG.network, z_dim=5, mapping_layers=2))
    message = (
        r"generator\.safetensors: found a generator with z_dim 4, mapping_layers 1, expected z_dim 5, mapping_layers 2"
    )
    with pytest.raises(ValueError, match=message):
        train(other, DATA, tmp_path, init=parent)


@pytest.mark.parametrize("content", [b"", b"hello", b"\xff" * 64])
def test_a_damaged_parent_is_named(parent, tmp_path, content):
    for name in ("g.safetensors", "g.discriminator.safetensors"):
        (tmp_path / "g.safetensors").write_bytes(parent.read_bytes())
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=rf"/{name}: found no readable safetensors file"):
            train(CONFIG, DATA, tmp_path / "out", init=tmp_path / "g.safetensors")


def test_a_discriminator_of_another_shape_is_named(parent, tmp_path):
    (tmp_path / "g.safetensors").write_bytes(parent.read_bytes())
    beside = discriminator_beside(tmp_path / "g.safetensors")
    beside.write_bytes(parent.read_bytes())
    with pytest.raises(
        ValueError, match=r"g\.discriminator\.safetensors: found format 'latentprint.generator/1', expect"
    ):
        train(CONFIG, DATA, tmp_path / "out", init=tmp_path / "g.safetensors")
    wider = replace(CONFIG, network=replace(CONFIG.network, channel_max=8), kimg=BATCH / 1000)
    beside.write_bytes(discriminator_beside(train(wider, DATA, tmp_path / "wider")).read_bytes())
    with pytest.raises(ValueError, match=r"g\.discriminator\.safetensors: tensor .* has shape"):
        train(CONFIG, DATA, tmp_path / "out", init=tmp_path / "g.safetensors")
