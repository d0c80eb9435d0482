"""``neurosim demo``: the main job on real digits, end to end."""

from __future__ import annotations

import json
import os
import time
from importlib import resources
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from neurosim.cli.console import Json, err, friendly, out, print_json, progress, table
from neurosim.cli.models import print_compilation
from neurosim.cli.runs import print_comparison, print_summary
from neurosim.errors import MissingExtra
from neurosim.units import format_count

MODEL, CHIP = "stmixer-mnist-t1", "async-mesh"


@friendly
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to leave the run directory.")] = Path("neurosim-demo"),
    samples: Annotated[int, typer.Option(min=1, max=200, help="How many of the 200 images.")] = 200,
    sync: Annotated[str, typer.Option(help="wavefront, settle or free.")] = "wavefront",
    json_: Json = False,
) -> None:
    """Run a trained spiking transformer (STMixer) on 200 handwritten digits on the simulated chip, and say what it did and what it cost."""
    from neurosim import api
    from neurosim.baselines import compare_run
    from neurosim.chip import load_chip
    from neurosim.compiler.check import choose_sync
    from neurosim.frontends import load
    from neurosim.golden import run_network
    from neurosim.host import load_data
    from neurosim.trace import core_summary, load_run, refuse_foreign

    began = time.perf_counter()
    refuse_foreign(output)
    choose_sync(load_chip(CHIP), sync)  # refused before any work
    say = (lambda *a, **k: None) if json_ else out.print
    data_folder = resources.files("neurosim") / "data"
    card = json.loads((data_folder / "models" / f"{MODEL}.json").read_text("utf-8"))

    say(f"1. the network: {MODEL}", style="bold")
    net = load(MODEL)
    say(f"   spiking transformer without attention, T = {net.steps}; {card['figures']['test_accuracy']:.2%} of MNIST's 10,000 test images in float")
    say(f"\n2. compiled to {CHIP}", style="bold")
    compilation = api.compile_model(net, CHIP, sync)
    if not json_:
        print_compilation(compilation)
    program = compilation.program

    with resources.as_file(data_folder / "mnist200.npz") as path:
        data = load_data(path, program).first(samples)
    say(f"\n3. run, event by event: {samples} images that the training never saw", style="bold")
    if not json_:
        err.print("   (the first run on a machine compiles the engine, which takes a minute or so of a processor)", style="dim")
    # one image with the trace of every event, which for all of them would be gigabytes; it also compiles the engine before the workers need it
    output.parent.mkdir(parents=True, exist_ok=True)
    trace_path = output.with_name(f".{output.name}.trace.parquet")
    try:
        api.simulate(program, data.first(1), record=trace_path)
        with progress("simulating", quiet=json_) as update:
            result = api.simulate(program, data, workers=min(4, os.cpu_count() or 1), progress=update)
        result.trace_path = trace_path
        result.save(output, command=["demo"])
    finally:
        trace_path.unlink(missing_ok=True)
    summary = result.summary()
    assert data.labels is not None
    float_scores = run_network(net, data.images).scores
    float_accuracy = float(np.mean(np.argmax(float_scores, axis=1) == data.labels))
    agree = float(np.mean(np.argmax(float_scores, axis=1) == result.predictions))
    if not json_:
        print_summary(summary)
        say(f"the float model gets {float_accuracy:.2%} of the same images right; chip and float agree on {agree:.2%}")
        share = compilation.report["host"]
        say(f"host: {share['share']:.1%} of the network's dense MACs ({format_count(share['macs'])} per image)")

    loaded = load_run(output)
    say("\n4. the busiest cores", style="bold")
    rows = core_summary(loaded)
    busiest = sorted(rows, key=lambda r: -max(r["synapse_busy"], r["soma_busy"]))[:5]
    if not json_:
        table(
            ("core", "populations", "synops", "synapse busy", "soma busy", "blocked"),
            [
                (
                    r["core"],
                    ", ".join(r["populations"]),
                    format_count(r["synops"]),
                    f"{r['synapse_busy']:.1%}",
                    f"{r['soma_busy']:.1%}",
                    f"{r['blocked']:.1%}",
                )
                for r in busiest
            ],
            right=(0, 2, 3, 4, 5),
        )
    say("\n5. the same inference on a GPU (analytic model, docs/baselines.md)", style="bold")
    comparison = compare_run(loaded)
    if not json_:
        print_comparison(comparison)

    plots = _plots(output, json_)
    if json_:
        print_json({
            "model": MODEL, "run": summary, "float_accuracy": float_accuracy, "test_accuracy": card["figures"]["test_accuracy"],
            "agreement": agree, "compile": compilation.report, "busiest": busiest, "compare": comparison.rows, "crossovers": comparison.crossovers,
            "notes": comparison.notes, "plots": plots,
            "seconds": time.perf_counter() - began,
        })  # fmt: skip
        return
    say(f"\nleft in {output}/: run.json, counters.parquet, outputs.npz, trace.parquet (every event of image 0)" + "".join(f", {p}" for p in plots))
    say("try next:", style="bold")
    say(f"   neurosim trace {output} --core {busiest[0]['core']}          every event at the busiest core")
    say(f"   neurosim check {MODEL} --chip {CHIP}   what became of each layer")
    if sync == "free":
        say("   neurosim demo                                     the same chip in steps: it computes what was trained")
    else:
        say("   neurosim demo --sync free                         the same chip without steps: neurons fire as soon as they can")
    if sync != "settle":
        say("   neurosim demo --sync settle                       without steps and exact: what was premature is taken back")
    say(f"   neurosim compile {MODEL} --chip {CHIP} --set noc.fifo=1 -o m.nsim --report")
    say(f"took {time.perf_counter() - began:.0f} s", style="dim")


def _plots(output: Path, quiet: bool) -> list[str]:
    """Draw the pictures into the run directory when matplotlib is there; their names."""
    from neurosim.report import draw_all
    from neurosim.trace import load_run

    try:
        return [path.name for path in draw_all(load_run(output), output)]
    except MissingExtra as error:
        if not quiet:
            err.print(f"no pictures: {error}", style="dim")
        return []
