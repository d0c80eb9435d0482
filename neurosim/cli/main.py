"""``neurosim``: the list of commands."""

from __future__ import annotations

from typing import Annotated

import typer

from neurosim import __version__
from neurosim.cli.baselines import baseline
from neurosim.cli.demo import demo
from neurosim.cli.energy import energy
from neurosim.cli.models import check, chips, compile_command
from neurosim.cli.report import report
from neurosim.cli.runs import compare, run
from neurosim.cli.trace import trace

app = typer.Typer(
    name="neurosim",
    help="Compile a trained spiking network to a simulated chip of asynchronous cores, run it event by event, count what it costs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"neurosim {__version__}")
        raise typer.Exit


@app.callback()
def _root(version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False) -> None:
    """Options before the command."""


app.command()(demo)
app.command()(check)
app.command("compile")(compile_command)
app.command()(run)
app.command()(trace)
app.command()(compare)
app.command()(energy)
app.command()(report)
app.command()(chips)
app.add_typer(baseline, name="baseline")


def main() -> None:
    """Entry point of the ``neurosim`` script."""
    app()
