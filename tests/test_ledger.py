"""The ledger of a run, on made-up power counters."""

import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

from generator.files import read_provenance
from tests.test_judging import CONFIG, DATA
from training import ledger as ledger_module
from training.ledger import EnergyMeter, gpus_of_run, ledger, ledger_sentence
from training.loop import train
from training.state import TrainingState


def set_counter(powercap: Path, name: str, label: str, microjoules: int, top: int = 10**12) -> None:
    folder = powercap / name
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in (("name", label), ("energy_uj", microjoules), ("max_energy_range_uj", top)):
        (folder / file).write_text(f"{text}\n")


def test_packages_are_added_up_and_their_parts_are_not(tmp_path):
    def set_all(a: int, b: int) -> None:
        set_counter(tmp_path, "intel-rapl:0", "package-0", a)
        set_counter(tmp_path, "intel-rapl:1", "package-1", b)
        set_counter(tmp_path, "intel-rapl:0:0", "core", a // 2)
        set_counter(tmp_path, "intel-rapl:2", "psys", 3 * (a + b))
        set_counter(tmp_path, "intel-rapl-mmio:0", "package-0", a)

    set_all(5_000_000, 1_000_000)
    meter = EnergyMeter(powercap=tmp_path)
    set_all(7_000_000, 1_500_000)
    assert meter.read()["processor"] == pytest.approx(2.5)
    assert meter.read()["processor"] == 0


def test_a_counter_that_starts_again_is_followed(tmp_path):
    set_counter(tmp_path, "intel-rapl:0", "package-0", 9_000_000, top=10_000_000)
    meter = EnergyMeter(powercap=tmp_path)
    set_counter(tmp_path, "intel-rapl:0", "package-0", 2_000_000, top=10_000_000)
    assert meter.read()["processor"] == pytest.approx(3)


def test_what_cannot_be_read_is_not_known(tmp_path):
    assert EnergyMeter(powercap=tmp_path / "none").read() == {"processor": None}
    set_counter(tmp_path, "intel-rapl:0", "package-0", 1)
    meter = EnergyMeter(powercap=tmp_path)
    (tmp_path / "intel-rapl:0" / "energy_uj").unlink()
    assert meter.read()["processor"] is None
    set_counter(tmp_path, "intel-rapl:0", "package-0", 2)
    assert meter.read()["processor"] is None  # nobody knows what was used in between
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("?")
    assert meter.read()["processor"] is None


def test_the_numbers_of_a_ledger():
    assert ledger(7200, 3600, 2, {"processor": None}) == {"images_per_second": 2, "device_hours": 2}
    record = ledger(7200, 3600, 1, {"processor": 1.8e6})
    assert record == {"images_per_second": 2, "device_hours": 1, "processor_kwh": 0.5}
    assert ledger_sentence(record) == "2.0 images/s, 1.00 device-hours, 0.5 kWh of the machine's processors"
    assert "kWh" not in ledger_sentence(ledger(1, 0, 1, {}))
    both = ledger_sentence(ledger(7200, 3600, 1, {"processor": 1.8e6, "gpu": 7.2e6}))
    assert both.endswith("0.5 kWh of the machine's processors, 2 kWh of the machine's GPUs")


class FakeNVML(ModuleType):
    """NVIDIA's library on a machine with GPUs that have counted these millijoules."""

    class NVMLError(Exception):
        pass

    def __init__(self, counters: dict[str, int]):
        super().__init__("pynvml")
        self.counters, self.opened = counters, 0

    def nvmlInit(self) -> None:
        self.opened += 1

    def nvmlShutdown(self) -> None:
        self.opened -= 1

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        return uuid

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:
        if handle not in self.counters:
            raise self.NVMLError("Not Supported")
        return self.counters[handle]


def test_the_gpus_of_a_run_are_added_up(tmp_path, monkeypatch):
    """With a made-up NVML: no machine here has one."""
    nvml = FakeNVML({"GPU-a": 1_000, "GPU-b": 5_000, "GPU-c": 0})
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda gpu: SimpleNamespace(uuid="abcd"[gpu]))
    meter = EnergyMeter((0, 1), tmp_path)
    nvml.counters.update({"GPU-a": 3_500, "GPU-b": 5_500, "GPU-c": 9_000})
    assert meter.read() == {"processor": None, "gpu": 3}
    assert EnergyMeter((0, 3), tmp_path).read()["gpu"] is None  # the fourth counts nothing
    assert nvml.opened == 0


def test_without_nvidias_library_nothing_is_known_of_gpus(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert EnergyMeter((0,), tmp_path).read()["gpu"] is None


def test_the_gpus_of_a_run_are_those_of_its_processes(monkeypatch):
    assert gpus_of_run("cpu") == ()
    assert gpus_of_run("cuda") == (0,)
    assert gpus_of_run("cuda:2") == (2,)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    assert gpus_of_run("cuda:1") == (0, 1, 2)


def test_energy_that_was_not_known_once_stays_unknown():
    state = TrainingState(CONFIG)
    state.use(1, {"processor": 2})
    state.use(1, {"processor": 3, "gpu": 4})  # the run went on with a GPU
    assert state.joules == {"processor": 5, "gpu": None}
    state.use(1, {"processor": None, "gpu": 4})
    state.use(1, {"processor": 1, "gpu": 4})
    assert state.joules == {"processor": None, "gpu": None}


def test_a_run_and_its_continuation_are_in_the_provenance(tmp_path, monkeypatch):
    """A kilowatt-hour each step, over both lives of a run; with one that is not known the sum isn't."""
    monkeypatch.setattr(ledger_module.EnergyMeter, "read", lambda self: {"processor": 3.6e6})
    train(replace(CONFIG, kimg=CONFIG.kimg / 2), DATA, tmp_path)
    found = read_provenance(train(CONFIG, DATA, tmp_path))
    assert found["ledger"]["processor_kwh"] == 6
    assert found["ledger"]["images_per_second"] > 0 and found["ledger"]["device_hours"] >= 0
    monkeypatch.setattr(ledger_module.EnergyMeter, "read", lambda self: {"processor": None})
    found = read_provenance(train(replace(CONFIG, kimg=2 * CONFIG.kimg), DATA, tmp_path))
    assert "processor_kwh" not in found["ledger"]
