"""The ledger of a run, on a made-up tree of power counters."""

from dataclasses import replace
from pathlib import Path

import pytest

from generator.files import read_provenance
from tests.test_judging import CONFIG, DATA
from training import ledger as ledger_module
from training.ledger import EnergyMeter, ledger, ledger_sentence
from training.loop import train


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
    meter = EnergyMeter(tmp_path)
    set_all(7_000_000, 1_500_000)
    assert meter.read() == pytest.approx(2.5)
    assert meter.read() == 0


def test_a_counter_that_starts_again_is_followed(tmp_path):
    set_counter(tmp_path, "intel-rapl:0", "package-0", 9_000_000, top=10_000_000)
    meter = EnergyMeter(tmp_path)
    set_counter(tmp_path, "intel-rapl:0", "package-0", 2_000_000, top=10_000_000)
    assert meter.read() == pytest.approx(3)


def test_what_cannot_be_read_is_not_known(tmp_path):
    assert EnergyMeter(tmp_path / "none").read() is None
    set_counter(tmp_path, "intel-rapl:0", "package-0", 1)
    meter = EnergyMeter(tmp_path)
    (tmp_path / "intel-rapl:0" / "energy_uj").unlink()
    assert meter.read() is None
    set_counter(tmp_path, "intel-rapl:0", "package-0", 2)
    assert meter.read() is None  # nobody knows what was used in between
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("?")
    assert meter.read() is None


def test_the_numbers_of_a_ledger():
    assert ledger(7200, 3600, 2, None) == {"images_per_second": 2, "device_hours": 2}
    record = ledger(7200, 3600, 1, 1.8e6)
    assert record == {"images_per_second": 2, "device_hours": 1, "processor_kwh": 0.5}
    assert ledger_sentence(record) == "2.0 images/s, 1.00 device-hours, 0.5 kWh of the machine's processors"
    assert "kWh" not in ledger_sentence(ledger(1, 0, 1, None))


def test_a_run_and_its_continuation_are_in_the_provenance(tmp_path, monkeypatch):
    """A kilowatt-hour each step, over both lives of a run; with one that is not known the sum isn't."""
    monkeypatch.setattr(ledger_module.EnergyMeter, "read", lambda self: 3.6e6)
    train(replace(CONFIG, kimg=CONFIG.kimg / 2), DATA, tmp_path)
    found = read_provenance(train(CONFIG, DATA, tmp_path))
    assert found["ledger"]["processor_kwh"] == 6
    assert found["ledger"]["images_per_second"] > 0 and found["ledger"]["device_hours"] >= 0
    monkeypatch.setattr(ledger_module.EnergyMeter, "read", lambda self: None)
    found = read_provenance(train(replace(CONFIG, kimg=2 * CONFIG.kimg), DATA, tmp_path))
    assert "processor_kwh" not in found["ledger"]
