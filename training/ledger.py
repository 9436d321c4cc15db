"""What a run has used: time, devices, and the energy of processors and GPUs where the machine tells."""

import os
from collections.abc import Sequence
from pathlib import Path

import torch

POWERCAP = Path("/sys/class/powercap")  # Linux: counters of the processors' packages (RAPL), often for root alone
HOUR = 3600.0
JOULES_IN_KWH = 3.6e6
PARTS = {"processor": "processors", "gpu": "GPUs"}

Counters = dict[str, tuple[float, float]]  # joules counted so far, and the counter's top


class EnergyMeter:
    """Joules used by the processor packages of this machine and by some GPUs, by all that runs on them.

    A counter that starts again at its top is followed if it is read more often than that (minutes).
    gpus: their numbers in PyTorch.
    """

    def __init__(self, gpus: Sequence[int] = (), powercap: Path = POWERCAP):
        self.gpus, self.powercap = gpus, powercap
        self.last = self._counters()

    def read(self) -> dict[str, float | None]:
        """Joules since the last call, or since the meter was made, of "processor" and, if there are any, "gpu".

        None where there is no counter that can be read.
        """
        before, self.last = self.last, self._counters()
        return {part: _used(before[part], now) for part, now in self.last.items()}

    def _counters(self) -> dict[str, Counters]:
        found = {"processor": processor_counters(self.powercap)}
        return found | ({"gpu": gpu_counters(self.gpus)} if self.gpus else {})


def _used(before: Counters, now: Counters) -> float | None:
    if not now or now.keys() != before.keys():
        return None
    # a counter below its last value has gone round once
    return sum(value - before[name][0] + (top if value < before[name][0] else 0) for name, (value, top) in now.items())


def processor_counters(powercap: Path) -> Counters:
    """One for each processor package, {} where none can be read."""
    found = {}
    # intel-rapl:0 is a package (of AMD's too), intel-rapl:0:1 a part of it; psys is more than the processors
    for folder in powercap.glob("intel-rapl:*"):
        try:
            if folder.name.count(":") == 1 and (folder / "name").read_text().startswith("package"):
                value, top = (int((folder / n).read_text()) / 1e6 for n in ("energy_uj", "max_energy_range_uj"))
                found[folder.name] = (value, top)
        except (OSError, ValueError):  # not for this user to read
            continue
    return found


def gpu_counters(gpus: Sequence[int]) -> Counters:
    """One for each of these GPUs, since its driver was loaded; {} where NVIDIA's library or one of them is silent."""
    try:
        import pynvml  # of the extra "cuda"

        pynvml.nvmlInit()
    except Exception:  # no library, no driver: what it raises differs
        return {}
    found = {}
    try:
        for gpu in gpus:
            uuid = f"GPU-{torch.cuda.get_device_properties(gpu).uuid}"
            millijoules = pynvml.nvmlDeviceGetTotalEnergyConsumption(pynvml.nvmlDeviceGetHandleByUUID(uuid))
            found[uuid] = (millijoules / 1e3, 0.0)
    except pynvml.NVMLError:  # a GPU of before 2018 counts nothing
        return {}
    finally:
        pynvml.nvmlShutdown()
    return found


def gpus_of_run(device: str) -> tuple[int, ...]:
    """The GPUs that a run's processes on this machine train on, as PyTorch numbers them. device: this process's."""
    if not device.startswith("cuda"):
        return ()
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # of torchrun
    return tuple(range(processes)) if processes > 1 else (torch.device(device).index or 0,)


def ledger(images: int, seconds: float, processes: int, joules: dict[str, float | None]) -> dict[str, float]:
    """For the provenance. seconds: of the run, with all that it wrote and judged; joules: left out where not known."""
    found = {
        "images_per_second": round(images / max(seconds, 1e-9), 2),
        "device_hours": round(processes * seconds / HOUR, 4),
    }
    known = {part: used for part, used in joules.items() if used is not None}
    return found | {f"{part}_kwh": round(used / JOULES_IN_KWH, 6) for part, used in known.items()}


def ledger_sentence(record: dict[str, float]) -> str:
    """A ledger for a reader."""
    energy = [
        f", {record[f'{part}_kwh']:.3g} kWh of the machine's {name}"
        for part, name in PARTS.items()
        if f"{part}_kwh" in record
    ]
    return f"{record['images_per_second']:.1f} images/s, {record['device_hours']:.2f} device-hours{''.join(energy)}"
