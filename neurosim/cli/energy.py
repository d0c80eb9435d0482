"""energy: a finished run priced again, with intervals, by component, by layer, by price."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from neurosim.cli.console import Json, err, friendly, out, print_json, table
from neurosim.cli.runs import RunDir
from neurosim.errors import DataError
from neurosim.units import format_count, format_energy


@friendly
def energy(
    run_dir: RunDir,
    prices: Annotated[str | None, typer.Option(help="Price book, chip or TOML file; by default the run's own chip..")] = None,
    node: Annotated[str | None, typer.Option(help="Scale the book to this process node, 7hp or 65 for example (with --voltage).")] = None,
    voltage: Annotated[float | None, typer.Option(help="Supply in volts to scale to (with --node).")] = None,
    layers: Annotated[bool, typer.Option("--layers", help="What every layer of the network costs.")] = False,
    json_: Json = False,
) -> None:
    """Price a finished run by any price book, without simulating again; intervals are 5 % to 95 % over the ranges of all prices."""
    from neurosim.energy import book_of, intervals, load_book, price, sensitivities
    from neurosim.trace import load_run

    run = load_run(run_dir)
    if (node is None) != (voltage is None):
        raise DataError("--node and --voltage belong together; give both")
    book = book_of(run.program.chip) if prices is None else load_book(prices)
    if node is not None and voltage is not None:
        book = book.at(node, voltage)
    chosen, name = book.prices(run.program.chip), book.name
    priced = price(run.program, run.result, host_macs_per_sample=run.host_macs_per_sample, prices=chosen, streamed=run.streamed)
    ranges, moves = intervals(priced), sensitivities(priced)
    per_layer = layer_rows(run, priced)
    if json_:
        print_json(
            {
                "prices": name,
                "samples": priced.samples,
                "window": priced.window,
                "energy_fj": priced.per_sample(),
                "board_fj": None if priced.board_fj is None else priced.board_fj / priced.samples,
                "intervals_fj": {key: interval.as_dict() for key, interval in ranges.items()},
                "lines": priced.table(),
                "layers": per_layer,
                "sensitivity": [asdict(row) for row in moves],
                "left_out": list(priced.left_out),
            }
        )
        return
    if layers:
        _print_layers(per_layer)
        return
    out.print(str(priced))
    out.print("")
    parts = priced.per_sample() | ({} if priced.board_fj is None else {"board": priced.board_fj / priced.samples})
    table(
        ("per sample", "energy", "5 %", "95 %"),
        [(key, format_energy(value), format_energy(ranges[key].low), format_energy(ranges[key].high)) for key, value in parts.items()],
        right=(1, 2, 3),
    )
    out.print("")
    table(
        ("what moves the total most", "status", "total at its low end", "at its high end"),
        [(f"{row.component}: {row.event}", row.status, format_energy(row.at_low_fj), format_energy(row.at_high_fj)) for row in moves[:6]],
        right=(2, 3),
    )
    err.print(f"prices of {name}", style="dim")


def layer_rows(run: Any, priced: Any) -> list[dict[str, Any]]:
    """Per population of the network: spikes, neurons, energy by part and its share of the chip, per sample."""
    program, result = run.program, run.result
    total = priced.chip_fj or 1.0
    rows = []
    for share in priced.populations:
        index = program.population_index(share.name)
        slices = program.slice_population == index
        spikes = float(result.slice_spikes[:, slices].sum()) / priced.samples if result.slice_spikes.size else None
        neurons = int((program.neuron_ptr[1:] - program.neuron_ptr[:-1])[slices].sum())
        parts = {name: getattr(share, name) / priced.samples for name in ("synapse", "soma", "noc", "static", "total")}
        rows.append(
            {
                "layer": share.name,
                "cores": len(share.cores),
                "neurons": neurons,
                "spikes": spikes,
                "synops": share.synops / priced.samples,
                "energy_fj": parts,
                "share": share.total / total,
            }
        )
    return rows


def _print_layers(rows: list[dict[str, Any]]) -> None:
    table(
        ("layer", "cores", "neurons", "spikes", "operations", "synapse", "soma", "noc", "static", "share of chip"),
        [
            (
                r["layer"], r["cores"], format_count(r["neurons"]), "-" if r["spikes"] is None else format_count(round(r["spikes"], 1)),
                format_count(round(r["synops"], 1)),
                *(format_energy(r["energy_fj"][part]) for part in ("synapse", "soma", "noc", "static")), f"{100 * r['share']:.1f} %",
            )
            for r in rows
        ],
        right=tuple(range(1, 10)),
    )  # fmt: skip
