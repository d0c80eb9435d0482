"""baseline measure: the same network dense in PyTorch on the GPU or CPU at hand, with its energy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from neurosim.cli.console import Json, ModelArgument, err, friendly, print_json, table
from neurosim.cli.options import read_model, with_model_options
from neurosim.units import format_energy, format_time

baseline = typer.Typer(help="Measure the same inference on a GPU or CPU.", no_args_is_help=True, rich_markup_mode=None)


@baseline.callback()
def _root() -> None:
    """Commands about baselines."""


@baseline.command()
@friendly
@with_model_options
def measure(
    model: ModelArgument,
    device: Annotated[str, typer.Option(help="cuda:0, cuda:1, ... or cpu.")] = "cuda:0",
    batch: Annotated[list[int] | None, typer.Option(min=1, help="Batch size (repeatable); by default 1 and 256.")] = None,
    precision: Annotated[str, typer.Option(help="fp32, tf32, fp16 or bf16.")] = "fp16",
    seconds: Annotated[float, typer.Option(help="Length of every window; energy counters need about 10 s.")] = 10.0,
    ann: Annotated[bool, typer.Option("--ann", help="Its shape with relu in place of neurons and one step: an equivalent ANN.")] = False,
    graph: Annotated[bool, typer.Option("--graph/--no-graph", help="Replay a CUDA graph.")] = True,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the record, a JSON file for `neurosim compare --record`.")] = None,
    json_: Json = False,
    *,
    reading: dict[str, Any],
) -> None:
    """Run MODEL dense in PyTorch, again and again for some seconds, and read the energy counter; idle power apart."""
    from dataclasses import asdict

    from neurosim.baselines.measure import measure as run

    net = read_model(model, reading)
    say = (lambda text: None) if json_ else (lambda text: err.print(f"measuring: {text}", style="dim"))
    record = run(net, device, tuple(batch or (1, 256)), precision=precision, seconds=seconds, ann=ann, graph=graph, progress=say)
    if output is not None:
        record.save(output)
    if json_:
        print_json(asdict(record))
        return
    idle = "energy not measured" if record.idle_w is None else f"idle {record.idle_w:.1f} W"
    table(
        ("batch", "latency", "per second", "energy", "less idle"),
        [
            (
                p.batch, format_time(p.latency_ps), f"{p.throughput_per_s:.1f}",
                *("-" if e is None else format_energy(e) for e in (p.energy_gross_fj, p.energy_dynamic_fj)),
            )
            for p in record.points
        ],
        right=(0, 1, 2, 3, 4),
    )  # fmt: skip
    err.print(f"{record.network} ({record.kind}, {record.steps} steps) on {record.device}, {record.precision}; {idle}", style="dim")
