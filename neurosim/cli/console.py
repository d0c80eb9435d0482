"""What every command shares: one-line errors, JSON, progress bars, tables, common options."""

from __future__ import annotations

import errno
import functools
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from neurosim.errors import NeurosimError, RunError

P = ParamSpec("P")
R = TypeVar("R")

# names of layers, chips and files are printed as they are: layers[0] is no markup, :lock: no picture
_AS_IS: dict[str, Any] = {"highlight": False, "markup": False, "emoji": False, "soft_wrap": True}
# into a file or a pipe tables keep their width; in a terminal they fit it
out = Console(**_AS_IS, width=None if sys.stdout.isatty() else 160)
err = Console(**_AS_IS, stderr=True)

USER_MISTAKE, INTERRUPTED = 2, 130

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
ChipOption = Annotated[str, typer.Option("--chip", help="Preset (see `neurosim chips`) or TOML file.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Change one figure of the chip: --set noc.fifo=4 (repeatable).", metavar="KEY=VALUE")
]
ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="Shipped model, .nir, .net, .nsnet, .safetensors or .json file, or package.module:factory or file.py:factory (which runs that code).",
    ),
]


def friendly(command: Callable[P, R]) -> Callable[P, R]:
    """Turn what a user can cause into one line on standard error and an exit code: 2 for a mistake, 130 for Ctrl-C."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except NeurosimError as error:
            fail(str(error))
        except KeyboardInterrupt:
            err.print("interrupted; nothing was written", style="yellow")
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            sys.stderr.close()
            raise typer.Exit(0) from None
        except MemoryError as error:
            fail(f"not enough memory ({error or 'no size given'}); take fewer samples or jobs, or a smaller network; nothing was written")
        except OSError as error:
            remedy = "free some space and run again" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "check the path and its permissions"
            fail(f"{error.filename or 'input or output'}: {error.strerror or error}; {remedy}; nothing was written")

    return wrapped


def refuse_overwriting(output: Path | None, *inputs: Path | str) -> None:
    """RunError when an output would replace what is read."""
    for source in inputs:
        if output is not None and output.exists() and Path(source).exists() and output.samefile(source):
            raise RunError(f"{output} is read by this command, writing would replace it; choose another path")


def fail(message: str) -> NoReturn:
    """Print one line to standard error and leave with exit code 2."""
    err.print("error: ", style="red", end="")
    err.print(" ".join(message.split()))
    raise typer.Exit(USER_MISTAKE)


def print_json(value: Any) -> None:
    """One JSON object on standard output."""
    sys.stdout.write(json.dumps(value, indent=2, default=_plain) + "\n")


def _plain(value: Any) -> Any:
    """NumPy scalars and arrays, paths."""
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, title: str | None = None, right: Sequence[int] = ()) -> None:
    """Print a plain table; ``right`` lists the right-aligned columns."""
    grid = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for k, name in enumerate(columns):
        grid.add_column(name, justify="right" if k in right else "left", style=None, header_style="dim")
    for row in rows:
        grid.add_row(*(str(cell) for cell in row))
    out.print(grid)


@contextmanager
def progress(what: str, *, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on standard error (none when it is not a terminal): yields ``update(done, total)``."""
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
        console=err, transient=True, disable=quiet or not err.is_terminal,
    )  # fmt: skip
    with bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
