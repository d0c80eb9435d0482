"""Measure a network on the GPU or CPU at hand: latency and energy per inference, idle apart, as a record that can be stored and shipped.

A window repeats the same batch for at least ``seconds`` (10 s by default: energy counters are updated about ten times a second); idle power is taken
in a window of its own before, with the context open. Energies are those of the meter's boundary (docs/baselines.md).
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurosim.baselines.meters import Meter, NvmlMeter, RaplMeter, TimeOnly
from neurosim.errors import DataError, MissingExtra
from neurosim.files import write_text
from neurosim.network import Network

if TYPE_CHECKING:
    import torch

FORMAT, FORMAT_VERSION = "neurosim-baseline", 1
SECONDS = 10.0
WARM_UP = 3
PRECISIONS = ("fp32", "tf32", "fp16", "bf16")


@dataclass(frozen=True)
class Point:
    """One batch size. Energies in fJ per inference, None without a meter; ``latency_ps`` of the whole batch."""

    batch: int
    repeats: int
    window_s: float
    latency_ps: float
    throughput_per_s: float
    energy_gross_fj: float | None
    energy_dynamic_fj: float | None
    """Gross minus idle power times time."""
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Record:
    """One network on one device at one precision; JSON on disk."""

    network: str
    steps: int
    parameters: int
    macs: int
    device: str
    precision: str
    kind: str
    """snn: the network as it is; ann: its shape with relu and one step."""
    graphed: bool
    """Launches replayed from a CUDA graph."""
    idle_w: float | None
    idle_s: float
    points: tuple[Point, ...]
    software: dict[str, str]

    def save(self, path: Path) -> None:
        """Write the JSON file, whole or not at all."""
        write_text(path, json.dumps({"format": FORMAT, "version": FORMAT_VERSION, **asdict(self)}, indent=1) + "\n")

    @property
    def best(self) -> Point:
        """The point with the least gross energy per inference (without energies: the highest throughput)."""
        return min(self.points, key=lambda p: -p.throughput_per_s if p.energy_gross_fj is None else p.energy_gross_fj)


def read_record(path: Path) -> Record:
    """A record's file; raises DataError when it is missing, broken or of another version."""
    try:
        table = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise DataError(f"record {path}: {error.strerror}") from None
    except ValueError as error:
        raise DataError(f"record {path} is no JSON: {error}") from None
    if not isinstance(table, dict) or table.pop("format", None) != FORMAT or table.pop("version", None) != FORMAT_VERSION:
        raise DataError(f"record {path} is no {FORMAT} of version {FORMAT_VERSION}; measure again")
    try:
        return Record(**{**table, "points": tuple(Point(**point) for point in table["points"])})
    except (KeyError, TypeError) as error:
        raise DataError(f"record {path} is broken ({error}); measure again") from None


def shipped_records() -> list[Record]:
    """The records that come with the package."""
    folder = resources.files(__package__) / "records"
    found = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".json")) if folder.is_dir() else []
    with resources.as_file(folder) as here:
        return [read_record(here / name) for name in found]


def measure(
    net: Network,
    device: str = "cuda:0",
    batches: Sequence[int] = (1, 256),
    *,
    precision: str = "fp16",
    seconds: float = SECONDS,
    ann: bool = False,
    graph: bool = True,
    meter: Meter | None = None,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
    progress: Callable[[str], None] = lambda text: None,
) -> Record:
    """Run ``net`` dense in PyTorch and read the meter: by default NVML for cuda devices, RAPL for the cpu, and time alone where there is neither.

    ``graph``: replay a CUDA graph (cuda only), which is what a careful user does. Raises DataError on an unknown device or precision, a batch below 1
    or one that does not fit, MissingExtra without torch.
    """
    try:
        import torch
    except ImportError:
        raise MissingExtra("measuring a baseline needs torch; install neurosim[torch]") from None
    from neurosim.baselines.torch_network import TorchNetwork, example_input

    if precision not in PRECISIONS:
        raise DataError(f"precision {precision!r} is not known; there are {', '.join(PRECISIONS)}")
    if not batches or min(batches) < 1:
        raise DataError(f"batches {list(batches)} must hold whole numbers of at least 1")
    if seconds <= 0:
        raise DataError(f"a window of {seconds} s is not above 0; energy counters need about {SECONDS:.0f} s")
    where = _device(torch, device)
    on_gpu = where.type == "cuda"
    if not on_gpu and precision == "tf32":
        raise DataError("precision tf32 belongs to NVIDIA GPUs; take fp32, bf16 or fp16 on the cpu")
    meter = meter if meter is not None else _meter(where)
    kind = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(precision, torch.float32)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    module = TorchNetwork(net, ann=ann).eval().to(device=where, dtype=kind)
    wait = torch.cuda.synchronize if on_gpu else (lambda: None)
    points = []
    with torch.inference_mode():
        first = example_input(net, min(batches)).to(device=where, dtype=kind)
        module(first)  # opens the context, which idles at a power of its own
        wait()
        progress("idle")
        idle_w, idle_s = _idle(meter, seconds, clock, sleep)
        for batch in batches:
            progress(f"batch {batch}")
            try:
                once = _runner(torch, module, example_input(net, batch).to(device=where, dtype=kind), graphed=graph and on_gpu)
                points.append(_window(once, wait, batch, seconds, idle_w, meter, clock))
            except torch.cuda.OutOfMemoryError:
                raise DataError(f"batch {batch} of {net.name} does not fit into the memory of {meter.name}; take a smaller one") from None
    return Record(
        network=net.name,
        steps=module.steps,
        parameters=net.parameters(),
        macs=net.dense_macs() * module.steps,
        device=meter.name,
        precision=precision,
        kind="ann" if ann else "snn",
        graphed=graph and on_gpu,
        idle_w=idle_w,
        idle_s=idle_s,
        points=tuple(points),
        software={
            "torch": torch.__version__,
            "cuda": str(torch.version.cuda),
            "python": platform.python_version(),
            "threads": str(torch.get_num_threads()),
        },
    )


def _device(torch: Any, name: str) -> torch.device:
    try:
        where = torch.device(name)
    except RuntimeError:
        raise DataError(f"device {name!r} is not known; give cuda:0 or cpu") from None
    if where.type not in ("cuda", "cpu"):
        raise DataError(f"device {name!r} has no meter here; give cuda:0 or cpu")
    if where.type == "cuda" and (not torch.cuda.is_available() or (where.index or 0) >= torch.cuda.device_count()):
        raise DataError(f"device {name!r} does not exist on this machine ({torch.cuda.device_count()} CUDA devices); give --device cpu")
    result: torch.device = where
    return result


def _meter(where: torch.device) -> Meter:
    if where.type == "cuda":
        return NvmlMeter(where.index or 0)
    try:
        return RaplMeter()
    except DataError:
        return TimeOnly()


def _idle(meter: Meter, seconds: float, clock: Callable[[], float], sleep: Callable[[float], None]) -> tuple[float | None, float]:
    """Power while nothing runs, in W (None without a meter), and for how long it was looked at."""
    sleep(min(1.0, seconds / 4))  # clocks come down
    start, began = meter.joules(), clock()
    sleep(seconds)
    spent, took = meter.joules() - start, clock() - began
    return (spent / took if spent == spent else None), took


def _runner(torch: Any, module: Any, x: Any, *, graphed: bool) -> Callable[[], Any]:
    """One inference of the batch, warmed up; replayed from a CUDA graph where asked."""
    for _ in range(WARM_UP):
        module(x)
    if not graphed:
        return lambda: module(x)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        module(x)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        module(x)
    replay: Callable[[], Any] = graph.replay
    return replay


def _window(
    once: Callable[[], Any], wait: Callable[[], Any], batch: int, seconds: float, idle_w: float | None, meter: Meter, clock: Callable[[], float]
) -> Point:
    """Repeat the batch for ``seconds``, waiting for the device now and then so that the queue stays short."""
    once()
    wait()
    began = clock()
    once()
    wait()
    chunk = max(1, int(0.05 / max(clock() - began, 1e-6)))
    start, began, repeats = meter.joules(), clock(), 0
    while clock() - began < seconds:
        for _ in range(chunk):
            once()
        wait()
        repeats += chunk
    spent, took = meter.joules() - start, clock() - began
    inferences = repeats * batch
    gross = spent / inferences * 1e15 if spent == spent else None
    return Point(
        batch=batch,
        repeats=repeats,
        window_s=took,
        latency_ps=took / repeats * 1e12,
        throughput_per_s=inferences / took,
        energy_gross_fj=gross,
        energy_dynamic_fj=None if gross is None or idle_w is None else gross - idle_w * took / inferences * 1e15,
        facts=meter.facts(),
    )
