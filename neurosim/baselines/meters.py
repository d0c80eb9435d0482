"""Energy meters of the machine at hand: NVML for NVIDIA GPUs, RAPL for CPUs, and one for tests.

A meter reads joules since some beginning. NVML's counter is updated about every 100 ms and RAPL's wraps around, so windows are seconds long.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from neurosim.errors import DataError, MissingExtra

RAPL = Path("/sys/class/powercap")


class Meter(Protocol):
    """Joules of one device."""

    name: str

    def joules(self) -> float:
        """Energy since some beginning; never decreases."""
        ...

    def facts(self) -> dict[str, Any]:
        """What a record should say about the device now: driver, clocks, power limit, temperature."""
        ...


class NvmlMeter:
    """One NVIDIA GPU through nvidia-ml-py: the energy counter of Volta and newer, whole board as the driver sees it."""

    def __init__(self, index: int = 0) -> None:
        try:
            import pynvml
        except ImportError:
            raise MissingExtra("measuring a GPU needs nvidia-ml-py; install neurosim[measure]") from None
        self._nvml = pynvml
        try:
            pynvml.nvmlInit()
            self._handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            pynvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)
        except pynvml.NVMLError as error:
            raise DataError(f"GPU {index}: NVML gives no energy counter ({error}); it needs an NVIDIA GPU of the Volta generation or newer") from None
        self.name = _text(pynvml.nvmlDeviceGetName(self._handle))

    def joules(self) -> float:
        """Energy since the driver was loaded."""
        return float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)) / 1e3

    def facts(self) -> dict[str, Any]:
        """Driver, clocks in MHz, power limit in W, temperature in degrees Celsius."""
        n, h = self._nvml, self._handle
        return {
            "driver": _text(n.nvmlSystemGetDriverVersion()),
            "sm_mhz": n.nvmlDeviceGetClockInfo(h, n.NVML_CLOCK_SM),
            "memory_mhz": n.nvmlDeviceGetClockInfo(h, n.NVML_CLOCK_MEM),
            "power_limit_w": n.nvmlDeviceGetEnforcedPowerLimit(h) / 1e3,
            "temperature_c": n.nvmlDeviceGetTemperature(h, n.NVML_TEMPERATURE_GPU),
        }


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


class RaplMeter:
    """All CPU packages of the machine through Linux' powercap files; without their memory unless it is in the package domain."""

    def __init__(self, root: Path = RAPL) -> None:
        packages = sorted(p for p in root.glob("intel-rapl:*") if p.name.count(":") == 1) if root.is_dir() else []
        self._counters: list[tuple[Path, int]] = []
        try:
            self._counters = [(p / "energy_uj", int((p / "max_energy_range_uj").read_text())) for p in packages]
            self._last = [int(path.read_text()) for path, _ in self._counters]
        except OSError as error:
            raise DataError(f"RAPL counter {error.filename} cannot be read ({error.strerror}); run as a user who may") from None
        if not self._counters:
            raise DataError(f"no RAPL counter below {root}; this machine does not show its CPU's energy, measure time alone")
        self._microjoules = 0
        self.name = _cpu_name()

    def joules(self) -> float:
        """Energy since this meter was made."""
        for k, (path, top) in enumerate(self._counters):
            now = int(path.read_text())
            self._microjoules += (now - self._last[k]) % (top + 1)
            self._last[k] = now
        return self._microjoules / 1e6

    def facts(self) -> dict[str, Any]:
        """Number of packages."""
        return {"packages": len(self._counters)}


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return "CPU"
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "CPU")


@dataclass
class TimeOnly:
    """No energy: for machines without a counter; records then hold latency alone."""

    name: str = field(default_factory=_cpu_name)

    def joules(self) -> float:
        """Not a number."""
        return float("nan")

    def facts(self) -> dict[str, Any]:
        """Nothing."""
        return {}


@dataclass
class FakeMeter:
    """Draws ``watts`` all the time, and ``busy_watts`` more while ``busy``; time from ``clock``. For tests."""

    clock: Callable[[], float]
    watts: float = 50.0
    busy_watts: float = 100.0
    name: str = "fake"
    busy: bool = False
    _last: float | None = None
    _joules: float = 0.0

    def joules(self) -> float:
        """Integral so far; ``busy`` counts for the time since the last reading."""
        now = self.clock()
        if self._last is not None:
            self._joules += (now - self._last) * (self.watts + (self.busy_watts if self.busy else 0.0))
        self._last = now
        return self._joules

    def facts(self) -> dict[str, Any]:
        """Says that it is no device."""
        return {"driver": "none"}
