"""matplotlib on demand, colours that colour-blind readers can tell apart, labels of layers."""

from __future__ import annotations

from typing import Any

from neurosim.errors import MissingExtra

# Okabe and Ito, Color Universal Design (2008)
BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILION, PURPLE = "#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
GREY, LIGHT = "#8A8A8A", "#E8E8E8"
WAITING = "#B8B8B8"
"""What waits for room in the FIFO behind it, beside the colours of those at work."""
COMPONENT_COLOURS = {"synapse": BLUE, "soma": ORANGE, "noc": GREEN, "io": PURPLE, "static": GREY, "host": VERMILION}
STATE_COLOURS = {"busy": BLUE, "blocked": VERMILION, "held": YELLOW, "idle": LIGHT}


def pyplot() -> Any:
    """matplotlib.figure's Figure class with the style of our pictures; raises MissingExtra when matplotlib is not installed."""
    try:
        import matplotlib.figure
        import matplotlib.style
    except ImportError:
        raise MissingExtra('pictures need matplotlib: pip install "neurosim[report]"') from None
    return matplotlib


def new_figure(width: float, height: float) -> Any:
    """A Figure of that size in inches that no window system and no global state knows of."""
    return pyplot().figure.Figure(figsize=(width, height), layout="constrained", dpi=130)


def time_unit(largest_ps: int) -> tuple[float, str]:
    """(ps per unit, the unit) for axes up to ``largest_ps``."""
    return next(
        (scale, unit) for scale, unit in ((1e9, "ms"), (1e6, "\N{MICRO SIGN}s"), (1e3, "ns"), (1.0, "ps")) if largest_ps >= scale or scale == 1.0
    )


def tidy(axes: Any, *, grid: str | None = None) -> None:
    """Remove the frame's upper and right side, put a pale grid behind the data."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.set_axisbelow(True)
    if grid:
        axes.grid(axis=grid, color=LIGHT, linewidth=0.8)
    axes.tick_params(labelsize=8)


def layer_order(names: list[str]) -> dict[str, int]:
    """Number of each module in order of appearance: populations of one module share a colour."""
    order: dict[str, int] = {}
    for name in names:
        order.setdefault(module_of(name), len(order))
    return order


def module_of(population: str) -> str:
    """``blocks.0.ffn.lif1`` -> ``blocks.0.ffn``; a name without a dot is its own module."""
    return population.rpartition(".")[0] or population


def micro(text: str) -> str:
    """``62.4 uJ`` -> ``62.4 µJ``: figures can show the sign that terminals may lack."""
    return text.replace(" u", " µ")


def shortened(name: str, limit: int = 18) -> str:
    """The last parts of a qualified name that fit: ``blocks.0.token_mix.lif1`` -> ``..token_mix.lif1``."""
    if len(name) <= limit:
        return name
    parts = name.split(".")
    kept = parts[-1][-limit:]
    for part in reversed(parts[:-1]):
        if len(kept) + len(part) + 3 > limit:
            break
        kept = f"{part}.{kept}"
    return f"..{kept}"
