"""run, compare: simulate a program and look at what it cost."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neurosim.cli.console import Json, err, friendly, out, print_json, progress, refuse_overwriting, table
from neurosim.cli.options import with_recording_options
from neurosim.cli.tracing import tell_deadlock, trace_file, trace_plan, with_trace_options
from neurosim.cli.watch import live_view
from neurosim.errors import Deadlock, RunError
from neurosim.units import format_count, format_energy, format_time

if TYPE_CHECKING:
    from neurosim.baselines import Comparison

RunDir = Annotated[Path, typer.Argument(metavar="RUN_DIR", help="A directory that `neurosim run` or `neurosim demo` wrote.")]
COMPONENTS = ("synapse", "soma", "noc", "io", "static", "host")


@friendly
@with_recording_options
@with_trace_options
def run(
    program: Annotated[Path, typer.Argument(metavar="P.nsim", help="A compiled program.")],
    input_: Annotated[
        Path, typer.Option("--input", "-i", help="DATA.npz (images or recordings), or a copy of N-MNIST, DVS128 Gesture, CIFAR10-DVS or SHD.")
    ],
    samples: Annotated[int | None, typer.Option(min=1, help="Only the first N samples.")] = None,
    engine: Annotated[str, typer.Option(help="fast or reference.")] = "fast",
    record: Annotated[Path | None, typer.Option(help="Write the event trace to this Parquet file.")] = None,
    stream: Annotated[bool, typer.Option("--stream", help="Samples follow each other without a pause: gives the throughput.")] = False,
    jitter: Annotated[float, typer.Option(min=0, max=0.999, help="Relative spread of service times, 0.1 = plus or minus 10 %.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Seed of jitter and faults.")] = 0,
    window: Annotated[str | None, typer.Option(help='Length of a sample in free, for example "2 ms": for recurrent networks and --stream.')] = None,
    link_loss: Annotated[float, typer.Option(min=0, max=1, help="Share of the spikes that a link between routers loses.")] = 0.0,
    dead_core: Annotated[list[int] | None, typer.Option(help="A core that died after compilation (repeatable).")] = None,
    weight_flip: Annotated[float, typer.Option(min=0, max=1, help="Share of the stored weight bits that are flipped.")] = 0.0,
    stuck_at_0: Annotated[float, typer.Option(min=0, max=1, help="Share of the stored weight bits that are stuck at 0.")] = 0.0,
    stuck_at_1: Annotated[float, typer.Option(min=0, max=1, help="Share of the stored weight bits that are stuck at 1.")] = 0.0,
    stop_margin: Annotated[
        int, typer.Option(min=0, help="Free and settle: a sample ends when its best class has led by so much for --stop-after.")
    ] = 0,
    stop_after: Annotated[str | None, typer.Option(help='How long, for example "20 us".')] = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Worker processes; the result does not depend on them.")] = 1,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write a run directory.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show progress, spikes, energy and the busiest cores while it runs.")] = False,
    json_: Json = False,
    *,
    recordings: dict[str, Any],
    tracing: dict[str, Any],
) -> None:
    """Run a program on data, event by event."""
    from neurosim import api
    from neurosim.host import REPAIRS, event_options
    from neurosim.program import load_program
    from neurosim.trace import refuse_foreign

    loaded = load_program(program)
    faults = None
    if link_loss or dead_core or weight_flip or stuck_at_0 or stuck_at_1:
        from neurosim.engine.faults import Faults

        faults = Faults(link_loss, tuple(dead_core or ()), weight_flip, stuck_at_0, stuck_at_1, seed)
    refuse_overwriting(record, program, input_)
    traced, kept = trace_plan(tracing, record, output)
    if output is not None:
        refuse_foreign(output)  # before a long run, not after it
    options = dict(recordings)
    events = event_options(bin=options.pop("bin_"), **options)
    simulate = functools.partial(
        api.simulate, loaded, input_, engine=engine, streamed=stream, jitter=int(jitter * 65536), seed=seed, window=window, faults=faults,
        stop_margin=stop_margin,
        stop_after=stop_after,
        events=events,
    )  # fmt: skip
    if watch and stream:
        raise RunError("--watch looks at samples as they end, a streamed run is one simulation; leave one of --watch and --stream out")
    with trace_file(traced, record), progress("simulating", quiet=json_ or watch) as update, live_view(loaded, shown=watch) as look:
        try:
            result = simulate(samples=samples, record=traced, keep=kept, workers=jobs, progress=update, watch=look)
        except Deadlock as error:
            tell_deadlock(loaded, error, simulate, json_)
            raise
        if output is not None:
            result.save(output, command=["run", str(program), "--input", str(input_)])
    if result.repaired:
        found = ", ".join(f"{count} {REPAIRS[name]}" for name, count in result.repaired.items())
        err.print(f"warning: recordings repaired: {found}", style="yellow")
    if result.events_left_out:
        err.print(
            f"warning: {result.events_left_out} events lie after the last of {loaded.steps} steps (or the span) and were left out", style="yellow"
        )
    summary = result.summary()
    if json_:
        print_json(summary)
    else:
        print_summary(summary)


def print_summary(s: dict[str, Any]) -> None:
    """One run in words."""
    right = f", {s['accuracy']:.2%} right" if s["accuracy"] is not None else ""
    out.print(f"{s['samples']} samples on {s['chip']} ({s['sync']}, {s['engine']} engine){right}", style="bold")
    n, e, t = s["samples"], s["energy_fj"], s["latency_ps"]
    out.print(
        f"per sample: {format_count(s['spikes'] / n)} spikes, {format_count(s['synops'] / n)} synaptic operations, "
        f"{format_count(s['packets'] / n)} packets, {format_count(s['hops'] / n)} packet-hops; "
        f"injected {format_count(s['injected_spikes'] / n)} spike packets and {format_count(s['injected_currents'] / n)} currents from the host"
    )
    first, decision = ("none" if t[name] is None else format_time(t[name]) for name in ("first_spike", "decision"))
    out.print(f"latency (median): first output spike {first}, decision {decision}, completion {format_time(t['completion'])}")
    if s["throughput_per_s"] is not None:
        out.print(f"throughput: {format_count(s['throughput_per_s'])} samples/s")
    shares = ", ".join(f"{name} {format_energy(e[name])}" for name in COMPONENTS)
    board = "" if s["board_fj"] is None else f"; {format_energy(s['board_fj'])} at its board"
    out.print(f"energy per sample: {format_energy(e['total'])} in all, {format_energy(e['chip'])} on the chip ({shares}){board}")
    out.print(f"waiting for credits: {format_time(s['stalls_ps'] / n)} per sample, summed over stations; saturations {s['saturations']}")
    if s["sync"] == "settle":
        moving = f"; {s['unsettled']} samples had not settled" if s["unsettled"] else ""
        told, back, nothing = (format_count(s[name] / n) for name in ("packets", "retracted", "cancelled"))
        out.print(f"settle: {back} spikes per sample took something back ({told} packets); {nothing} neurons were due with nothing to say{moving}")
    if s["drops"] or s["losses"] or s["cut"]:
        out.print(f"dropped by full FIFOs {s['drops']}, lost on links {s['losses']}, samples cut by their window {s['cut']}", style="yellow")
    for finding in s["findings"]:
        out.print(f"finding: {finding['text']}; {finding['remedy']}", style="yellow")
    out.print(f"simulated in {s['wall_s']:.1f} s" + (f"; run directory {s['run_dir']}" if s["run_dir"] else ""))


@friendly
def compare(
    run_dir: RunDir,
    baseline: Annotated[
        list[str] | None,
        typer.Option(
            "--baseline",
            "-b",
            help="h200, a100, rtx4090, rtx3090, orin-nano, xavier-nx, epyc-7763, paper-formula (repeatable; default the 1st, 5th and last).",
        ),
    ] = None,
    precision: Annotated[str, typer.Option(help="Arithmetic of the GPU: fp16, tf32 or fp32.")] = "fp16",
    record: Annotated[list[Path] | None, typer.Option(help="A record of `neurosim baseline measure` (repeatable).")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the comparison into this .png, .svg or .pdf file.")] = None,
    json_: Json = False,
) -> None:
    """The same inference on GPUs and CPUs (analytic model, or measured records), beside the chip, with intervals."""
    from neurosim.baselines import compare_run, read_record
    from neurosim.trace import load_run

    run = load_run(run_dir)
    comparison = compare_run(run, baseline, precision=precision, records=[read_record(path) for path in record or ()])
    if plot is not None:
        from neurosim.report.plots import comparison_figure

        comparison_figure(run, comparison).savefig(plot)
    if json_:
        print_json({"rows": comparison.rows, "crossovers": comparison.crossovers, "notes": comparison.notes})
    else:
        print_comparison(comparison)


def print_comparison(comparison: Comparison) -> None:
    """Platforms side by side: energy per inference with its interval, without idle or static power, latency, energy over that of chip + host."""
    table(
        ("platform", "batch", "energy", "5 % to 95 %", "less idle", "latency", "per second", "J s", "/ total", "5 % to 95 %", "/ chip", "/ board"),
        [
            (
                r["platform"], r["batch"] if r["batch"] is not None else "-", _energy(r["energy_gross_fj"]),
                _ends(r["energy_low_fj"], r["energy_high_fj"], _energy), _energy(r["energy_dynamic_fj"]),
                format_time(r["latency_ps"]) if r["latency_ps"] is not None else "-",
                "-" if r["throughput_per_s"] is None else format_count(round(r["throughput_per_s"], 1)),
                "-" if r["energy_delay_js"] is None else f"{r['energy_delay_js']:.2g}",
                _ratio(r["ratio_total"]), _ends(r["ratio_low"], r["ratio_high"], _ratio), _ratio(r["ratio_chip"]),
                _ratio(r["ratio_board"]),
            )
            for r in comparison.rows
        ],
        right=tuple(range(1, 12)),
    )  # fmt: skip
    for c in comparison.crossovers:
        first = f"needs less than the chip from batch {c['batch']} on" if c["batch"] else "never needs less than the chip"
        meet = [
            f"{factor:.3g} x the spikes ({what})" if factor is not None else f"no number of spikes ({what})"
            for factor, what in ((c["activity_batch_1"], "batch 1"), (c["activity_best"], "best batch"))
        ]
        out.print(f"  {c['platform']} {first}; they meet at {', '.join(meet)}")
    for note in comparison.notes:
        out.print(f"  {note}", style="dim")


def _energy(value: float | None) -> str:
    return "-" if value is None else format_energy(value)


def _ends(low: float | None, high: float | None, form: Callable[[float | None], str]) -> str:
    return "-" if low is None or high is None else f"{form(low)} to {form(high)}"


def _ratio(value: float | None) -> str:
    """A ratio to three digits; - where the chip has no prices, or no figure of its board."""
    return "-" if value is None else f"{value:.3g}"
