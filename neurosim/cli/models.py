"""check, compile, chips: what a chip can run and what becomes of a network on it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from neurosim.chip import load_chip, presets
from neurosim.cli.console import ChipOption, Json, ModelArgument, SetOption, err, friendly, out, print_json, refuse_overwriting, table
from neurosim.cli.options import QuantizeOption, RewriteOption, SplitOption, overrides_of, read_model, read_rewrite, with_model_options
from neurosim.errors import ChipError
from neurosim.units import format_count, format_energy, format_time

SyncOption = Annotated[str | None, typer.Option("--sync", help="free, settle, wavefront or barrier; by default the chip's first.")]
RestOption = Annotated[
    str | None, typer.Option("--rest", metavar="WHAT", help="Settle: samples start from the settled state of black (default), none or a data file.")
]


@friendly
@with_model_options
def check(
    model: ModelArgument,
    chip: ChipOption = "async-mesh",
    set_: SetOption = None,
    rewrite: RewriteOption = None,
    split: SplitOption = None,
    json_: Json = False,
    *,
    reading: dict[str, Any],
) -> None:
    """Say layer by layer what the chip runs natively, what is rewritten exactly, and what it refuses and why (then the exit code is 1)."""
    from neurosim import api

    network = read_model(model, reading)
    rows = api.check(network, chip, overrides_of(set_, split), read_rewrite(rewrite))
    ok = all(row.status != "refused" for row in rows)
    if json_:
        print_json({"ok": ok, "layers": [row.as_dict() for row in rows]})
    else:
        table(("layer", "op", "status", "what"), [(r.layer, r.op, r.status, "; ".join(filter(None, (r.reason, r.remedy)))) for r in rows])
        refused = sum(row.status == "refused" for row in rows)
        _notes(network)
        out.print(f"\n{model} runs on {chip}" if ok else f"\n{model} does not run on {chip}: {refused} layer(s) refused", style="bold")
    if not ok:
        raise typer.Exit(1)


def _notes(network: Any) -> None:
    """What the reader of the model chose or repaired."""
    for note in network.notes:
        out.print(f"note: {note}", style="dim")


@friendly
@with_model_options
def compile_command(
    model: ModelArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="The .nsim file to write.")],
    chip: ChipOption = "async-mesh",
    sync: SyncOption = None,
    set_: SetOption = None,
    rewrite: RewriteOption = None,
    split: SplitOption = None,
    quantize: QuantizeOption = None,
    report: Annotated[bool, typer.Option("--report", help="Print what became of every layer and the memory of every core.")] = False,
    rest: RestOption = None,
    calibrate: Annotated[
        Path | None, typer.Option(help="Images or event arrays whose scores set the scale of the readout's state, in place of its proven bound.")
    ] = None,
    allow_low_snr: Annotated[bool, typer.Option("--allow-low-snr", help="Compile even if weights keep less than 3 dB.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the placement.")] = 0,
    json_: Json = False,
    *,
    reading: dict[str, Any],
) -> None:
    """Compile a network for a chip into a .nsim file."""
    from neurosim import api

    refuse_overwriting(output, model, chip, *(source for source in (rest, calibrate) if source is not None))
    network = read_model(model, reading)
    result = api.compile_model(
        network,
        chip,
        sync,
        overrides_of(set_, split, quantize),
        seed=seed,
        rest=rest,
        rewrite=read_rewrite(rewrite),
        calibrate=calibrate,
        allow_low_snr=allow_low_snr,
    )
    result.program.save(output)
    if json_:
        print_json({**result.report, "output": str(output), "digest": result.program.digest()})
        return
    _notes(network)
    print_compilation(result, verbose=report)
    out.print(f"wrote {output}", style="bold")


def print_compilation(result: Any, *, verbose: bool = False) -> None:
    """The compiler's report in words."""
    r = result.report
    out.print(
        f"{r['network']} on {r['chip']}, {r['sync']}: {r['cores_used']} of {r['cores']} cores, {format_count(r['neurons'])} neurons, "
        f"{format_count(r['synapses'])} synapses from {format_count(r['weights'])} stored weights"
    )
    if "barrier" in r:
        b = r["barrier"]
        out.print(f"  barrier: an output comes {b['latency_steps']} steps after its input, {format_time(b['barrier_ps'])} per barrier")
    for split in r["splits"]:
        out.print(f"  {split['population']}: {split['slices']} slices by {split['axis']}")
    if verbose:
        table(("layer", "op", "status", "what became of it"), [(w["layer"], w["op"], w["status"], w["text"]) for w in r["rewrites"]])
        rows = [(m["core"], ", ".join(m["populations"]), m["neurons"], f"{m['bytes'] / 1024:.1f}", m["route_entries"]) for m in r["memory"]]
        limits = r["limits"]
        out.print(f"limits per core: {limits['neurons']} neurons, {limits['bytes'] / 1024:.0f} KiB, {limits['route_entries']} route entries")
        table(("core", "populations", "neurons", "KiB", "routes"), rows, right=(0, 2, 3, 4))
        if "kernel_words" in limits or "neuron_words" in limits:
            names = [name for name in ("kernel_words", "neuron_words") if name in limits]
            held = [(m["core"], *(f"{m[name]} of {limits[name][m['core'] % len(limits[name])]}" for name in names)) for m in r["memory"]]
            table(("core", *(name.replace("_", " ") for name in names)), held, right=(0, 1, 2))
    for warning in r["warnings"]:
        err.print(f"warning: {warning}", style="yellow")


@friendly
def chips(
    name: Annotated[str | None, typer.Argument(help="Preset or TOML file; without it the presets are listed.")] = None,
    set_: SetOption = None,
    json_: Json = False,
) -> None:
    """List the chip presets, or print one with its limits, figures, prices and their sources."""
    if name is None:
        if set_:
            raise ChipError("--set changes one chip and no chip is named; give a preset or a TOML file before it")
        specs = [load_chip(preset) for preset in presets()]
        if json_:
            print_json({"chips": [{"name": c.name, "description": c.description, "cores": c.memory.cores, "sync": c.sync} for c in specs]})
        else:
            table(
                ("name", "cores", "disciplines", "description"),
                [(c.name, c.memory.cores, ", ".join(c.sync), c.description) for c in specs],
                right=(1,),
            )
        return
    spec = load_chip(name, set_ or ())
    if json_:
        print_json(spec.model_dump(mode="json"))
        return
    out.print(f"{spec.name}: {spec.description} ({spec.process}); disciplines {', '.join(spec.sync)}", style="bold")
    for title, part, show in (("memory of a core", spec.memory, str), ("network-on-chip", spec.noc, str), ("arithmetic", spec.arithmetic, str)):
        table((title, "", "status", "source"), _rows(part, show), right=(1,))
        out.print()
    table(("timing", "", "status", "source"), _rows(spec.timing, format_time), right=(1,))
    out.print()
    table(("price", "", "status", "source"), _rows(spec.prices, format_energy), right=(1,))
    out.print()
    table(("op", "limits"), [(op, limits.model_dump(exclude_none=True) or "none") for op, limits in spec.capabilities.ops.items()])
    neuron = spec.capabilities.neuron
    table(("neuron", ""), list(neuron.model_dump().items()))
    others = {k: v for k, v in spec.capabilities.model_dump(exclude_none=True).items() if k not in ("ops", "neuron")}
    table(("other", ""), list(others.items()))
    if spec.sources:
        out.print()
        table(("source", ""), list(spec.sources.items()))


def _rows(part: Any, show: Any) -> list[tuple[Any, ...]]:
    """Name, value, status, source of every field of a table of the chip."""
    rows = []
    for key in type(part).model_fields:
        field = getattr(part, key)
        if field is None or field == ():
            continue
        if key == "barrier":
            rows += [(f"barrier, from {b.tiles} tile(s) on", show(b.duration.value), b.duration.status, b.duration.source) for b in field]
        elif hasattr(field, "status"):
            text = f"{field.value} mW" if key.endswith("_mw") else show(field.value)
            rows.append((key, text, field.status, field.source))
        else:
            text = ", ".join(map(str, field)) if isinstance(field, tuple) else str(field)
            rows.append((key, text, "choice", "design choice of this description"))
    return rows
