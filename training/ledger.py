"""What a run has used: time, devices, and the processors' energy where the machine tells."""

from pathlib import Path

POWERCAP = Path("/sys/class/powercap")  # Linux: counters of the processors' packages (RAPL), often for root alone
HOUR = 3600.0
JOULES_IN_KWH = 3.6e6


class EnergyMeter:
    """Joules used by the processor packages of this machine. All that runs on them counts, not this process alone.

    GPUs have counters of their own, which are not read. A counter that starts again at its top is followed if it is
    read more often than that (minutes).
    """

    def __init__(self, powercap: Path = POWERCAP):
        self.powercap = powercap
        self.last = self._counters()

    def read(self) -> float | None:
        """Joules since the last call, or since the meter was made; None where there is no counter that can be read."""
        before, now = self.last, self._counters()
        self.last = now
        if not now or now.keys() != before.keys():
            return None
        # a counter below its last value has gone round once
        return sum(
            value - before[name][0] + (top if value < before[name][0] else 0) for name, (value, top) in now.items()
        )

    def _counters(self) -> dict[str, tuple[float, float]]:
        """Joules counted so far, and the counter's top, by package."""
        found = {}
        # intel-rapl:0 is a package (of AMD's too), intel-rapl:0:1 a part of it; psys is more than the processors
        for folder in self.powercap.glob("intel-rapl:*"):
            try:
                if folder.name.count(":") == 1 and (folder / "name").read_text().startswith("package"):
                    value, top = (int((folder / n).read_text()) / 1e6 for n in ("energy_uj", "max_energy_range_uj"))
                    found[folder.name] = (value, top)
            except (OSError, ValueError):  # not for this user to read
                continue
        return found


def ledger(images: int, seconds: float, processes: int, joules: float | None) -> dict[str, float]:
    """For the provenance. seconds: of the run, with all that it wrote and judged; joules: left out where not known."""
    found = {
        "images_per_second": round(images / max(seconds, 1e-9), 2),
        "device_hours": round(processes * seconds / HOUR, 4),
    }
    return found | ({} if joules is None else {"processor_kwh": round(joules / JOULES_IN_KWH, 6)})


def ledger_sentence(record: dict[str, float]) -> str:
    """A ledger for a reader."""
    energy = f", {record['processor_kwh']:.3g} kWh of the machine's processors" if "processor_kwh" in record else ""
    return f"{record['images_per_second']:.1f} images/s, {record['device_hours']:.2f} device-hours{energy}"
