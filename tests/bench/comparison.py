"""The table of docs/comparison.md: shipped STMixers on two chips and a network from a NIR file on a third, beside GPUs (``make comparison``).

    python -m tests.bench.comparison --data ../shared/data --keep RUNS          the last column needs nir_cnn and nmnist of that folder

Every run is kept in a folder of RUNS and not made again while it lies there, so that other prices cost no simulation: delete the folder to run anew.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import neurosim
from neurosim import api
from neurosim.baselines import Comparison, compare_run
from neurosim.energy import intervals, price
from neurosim.frontends import load
from neurosim.host import event_options, load_data
from neurosim.trace import StoredRun, load_run
from neurosim.units import format_count, format_energy, format_time
from tests.bench import nmnist_speck

IMAGES = Path(neurosim.__file__).parent / "data" / "mnist200.npz"
DEVICES = ("h200", "orin-nano")


@dataclass(frozen=True)
class Column:
    """One network on one chip."""

    title: str
    network: str
    chip: str
    sync: str | None = None
    overrides: tuple[str, ...] = ()


COLUMNS = (
    Column("STMixer T = 1, `async-mesh`", "stmixer-mnist-t1", "async-mesh"),
    Column("T = 1, `loihi1-like`", "stmixer-mnist-t1", "loihi1-like", "barrier", ("memory.axons=65536",)),
    Column("STMixer T = 4, `async-mesh`", "stmixer-mnist-t4", "async-mesh"),
    Column("T = 4, `loihi1-like`", "stmixer-mnist-t4", "loihi1-like", "barrier", ("memory.axons=65536",)),
    Column("N-MNIST CNN, `speck2f-like`", "nir_cnn/cnn_sinabs.nir", "speck2f-like"),
)


def run_of(column: Column, folder: Path, data: Path | None, samples: int) -> StoredRun:
    """The kept run of a column, made where there is none."""
    path = folder / f"{Path(column.network).stem}-{column.chip}"
    if not path.exists():
        sys.stderr.write(f"running {column.title}\n")
        recordings = column.network.endswith(".nir")
        assert data is not None or not recordings
        source = load(Path(data or "") / column.network, **nmnist_speck.FLAGS) if recordings else column.network
        program = api.build(source, column.chip, column.sync, column.overrides, audit=False)
        options = event_options(pace="realtime") if recordings else None
        given = load_data(Path(data or "") / "nmnist" / "nmnist_test100.npz" if recordings else IMAGES, program, events=options)
        api.simulate(program, given.first(min(samples, len(given))), events=options).save(path)
    return load_run(path)


@dataclass(frozen=True)
class Shown:
    """A run with its price and its comparison."""

    run: StoredRun
    comparison: Comparison

    def row(self, platform: str, batch: int | None = 1) -> dict[str, Any]:
        """Of a device: the row at batch 1, or (None) the best."""
        rows = [r for r in self.comparison.rows if r["platform"] == platform]
        return next(r for r in rows if r["batch"] == 1) if batch else rows[-1]

    def crossing(self, platform: str) -> dict[str, Any]:
        return next(c for c in self.comparison.crossovers if c["platform"] == platform)


def brackets(low: float, high: float, form: Callable[[float], str]) -> str:
    return f"[{form(low)}, {form(high)}]"


def ratio(value: float) -> str:
    return f"{value:.2g}" if value < 100 else f"{value:.0f}"


def lines(shown: list[Shown]) -> list[list[str]]:
    """Rows of the table: a name, then a cell per column."""
    rows: list[list[str]] = []

    def add(name: str, cell: Callable[[Shown], str]) -> None:
        rows.append([name, *(cell(s) for s in shown)])

    def priced(s: Shown) -> Any:
        return price(s.run.program, s.run.result, host_macs_per_sample=s.run.host_macs_per_sample, streamed=s.run.streamed)

    def total(s: Shown) -> str:
        energy = priced(s)
        ends = intervals(energy)["total"]
        return f"**{format_energy(energy.per_sample()['total'])}** {brackets(ends.low, ends.high, format_energy)}"

    def board(s: Shown) -> str:
        energy = priced(s)
        if energy.board_fj is None:
            return "-"
        ends = intervals(energy)["board"]
        return f"{format_energy(energy.board_fj / energy.samples)} {brackets(ends.low, ends.high, format_energy)}"

    def first(s: Shown) -> str:
        u = s.run.summary
        return f"{u['sync']}{', real time' if u['realtime'] else ''}; {u['samples']}; {100 * u['accuracy']:.4g} %"

    add("discipline; samples; accuracy", first)
    add("spikes; synaptic operations", lambda s: "; ".join(format_count(s.run.summary[k] / s.run.summary["samples"]) for k in ("spikes", "synops")))
    add("**chip and host**", total)
    add("of it static", lambda s: f"{100 * priced(s).per_sample()['static'] / priced(s).per_sample()['total']:.0f} %")
    add("chip at its board", board)
    add("latency to decision", lambda s: format_time(s.run.summary["latency_ps"]["decision"]))
    for name, device in zip(("H200", "Orin Nano"), DEVICES, strict=True):
        one: Callable[[Shown], dict[str, Any]] = lambda s, d=device: s.row(d)  # noqa: E731
        best: Callable[[Shown], dict[str, Any]] = lambda s, d=device: s.row(d, None)  # noqa: E731
        add(f"{name}, batch 1", lambda s, f=one: f"{format_energy(f(s)['energy_gross_fj'])}, {format_time(f(s)['latency_ps'])}")
        add(
            f"**ratio {name} / chip**; / board",
            lambda s, f=one: (
                f"**{ratio(f(s)['ratio_total'])}** {brackets(f(s)['ratio_low'], f(s)['ratio_high'], ratio)}; "
                + ("-" if f(s)["ratio_board"] is None else ratio(f(s)["ratio_board"]))
            ),
        )
        add(
            f"{name}, best batch",
            lambda s, f=best: (
                f"{format_energy(f(s)['energy_gross_fj'])} ({f(s)['batch']:,}): {ratio(f(s)['ratio_total'])} "
                + brackets(f(s)["ratio_low"], f(s)["ratio_high"], ratio)
            ),
        )
    add("batch from which H200, Orin Nano need less", lambda s: ", ".join(str(s.crossing(d)["batch"] or "none") for d in DEVICES))
    add("spikes at which they meet at batch 1 (H200, Orin)", lambda s: ", ".join(factor(s.crossing(d)["activity_batch_1"]) for d in DEVICES))
    add("device on for as long as the chip works (H200, Orin)", lambda s: ", ".join(format_energy(s.row(d)["energy_window_fj"]) for d in DEVICES))
    add("papers' formula", lambda s: format_energy(s.row("paper-formula")["energy_gross_fj"]))
    return rows


def factor(value: float | None) -> str:
    return "never" if value is None else f"x {value:.2g}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with nir_cnn and nmnist; without it the last column is left out")
    parser.add_argument("--keep", type=Path, help="folder in which the runs are kept; by default they are thrown away")
    parser.add_argument("--samples", type=int, default=200)
    options = parser.parse_args()
    columns = [c for c in COLUMNS if options.data is not None or not c.network.endswith(".nir")]
    with tempfile.TemporaryDirectory() as thrown:
        folder = options.keep or Path(thrown)
        shown = []
        for column in columns:
            run = run_of(column, folder, options.data, options.samples)
            shown.append(Shown(run, compare_run(run, [*DEVICES, "paper-formula"])))
        print(f"| per inference | {' | '.join(c.title for c in columns)} |\n|{'---|' * (len(columns) + 1)}")
        for row in lines(shown):
            print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
