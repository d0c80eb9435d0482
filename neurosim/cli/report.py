"""report: one HTML page about a run, or several side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neurosim.cli.console import Json, friendly, out, print_json


@friendly
def report(
    run_dirs: Annotated[list[Path], typer.Argument(metavar="RUN_DIR...", help="One run directory, or several to set side by side.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The HTML file to write.")] = Path("report.html"),
    json_: Json = False,
) -> None:
    """Write one self-contained page: what ran, accuracy, energy, latency, findings, floor plan, timeline, tables. It needs no network."""
    from neurosim.report.html import write_report
    from neurosim.trace import load_run

    path = write_report([load_run(run) for run in run_dirs], output)
    if json_:
        print_json({"report": str(path), "bytes": path.stat().st_size})
    else:
        out.print(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB)")
