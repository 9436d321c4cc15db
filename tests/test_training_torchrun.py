"""Two processes of torchrun train what one process trains with the same batch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from generator.files import read_provenance
from tests.cases import write_reals

ROOT = Path(__file__).parent.parent
# the command line with one tiny preset, which logs every step; it runs once for each folder:kimg given
PROGRAM = """
import sys
import torch.distributed as dist
import cli
from generator.networks import GeneratorConfig
from training import loop
from training.config import TrainingConfig
from training.presets import PRESETS

network = GeneratorConfig(resolution=16, z_dim=8, w_dim=8, mapping_layers=2, channel_base=128, channel_max=8)
PRESETS["small-64"] = TrainingConfig(
    network=network, batch=8, mbstd_group_size=2, r1_interval=2, path_length_interval=2, gamma=0.5,
    augment=("blit", "geometry", "colour", "filter", "noise", "cutout"), ada_interval=2, ada_target=-2, ada_kimg=0.04,
)
loop.LOG_STEPS = 1
join = dist.init_process_group  # torchrun's meeting place serves once: these processes meet once and stay together
dist.init_process_group = lambda backend, **more: dist.is_initialized() or join(backend, **more)
leave, dist.destroy_process_group = dist.destroy_process_group, lambda: None
data, *runs = sys.argv[1:]
for run in runs:
    out, kimg = run.split(":")
    sys.argv = ["latentprint", "train", "--device", "cpu", "--data", data, "--out", out, "--kimg", kimg]
    try:
        cli.main()
    except SystemExit as stop:
        if stop.code:
            raise
if dist.is_initialized():
    leave()
"""


def run(processes: int, folder: Path, *runs: str) -> str:
    """Train in a folder; return what was printed."""
    (folder / "program.py").write_text(PROGRAM)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [sys.executable, *(launch if processes > 1 else []), "program.py", "reals", *runs]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=folder
    )
    try:
        printed, errors = process.communicate(timeout=240)
    except subprocess.TimeoutExpired:
        process.terminate()  # not kill: torchrun then ends its processes too
        raise
    assert process.returncode == 0, errors
    return printed


def figures(out: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss_d" in line]
    return [{k: v for k, v in line.items() if k not in ("seconds", "images_per_second")} for line in steps]


@pytest.mark.slow
def test_two_processes_have_the_losses_of_one_and_go_on_to_the_same_bits(tmp_path: Path) -> None:
    write_reals(tmp_path / "reals", 6)
    run(1, tmp_path, "one:0.048")
    printed = run(2, tmp_path, "two:0.048", "stopped:0.024", "stopped:0.048")
    assert printed.count("6 training images") == 3  # the first process alone reports

    # R1, path length, ADA's p and both losses, at every step
    expected, found = figures(tmp_path / "one"), figures(tmp_path / "two")
    assert len(expected) == len(found) == 6
    assert {"r1", "path_length", "loss_g", "p"} <= expected[0].keys() and expected[-1]["p"] > 0.3
    for a, b in zip(found, expected, strict=True):
        assert a == pytest.approx(b, rel=1e-3, abs=1e-3)
    assert read_provenance(tmp_path / "two" / "generator.safetensors")["processes"] == 2

    assert figures(tmp_path / "stopped") == found
    states = [torch.load(tmp_path / name / "checkpoint.pt", weights_only=True)["state"] for name in ("two", "stopped")]
    for network in ("G", "D", "G_ema"):
        for name, tensor in states[0][network].items():
            assert torch.equal(tensor, states[1][network][name]), name
