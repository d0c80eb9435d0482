"""Pictures of a stored run. matplotlib is an extra and is imported when the first picture is drawn. Exports are in ``neurosim.report.exports``."""

from neurosim.report.latency import accuracy_figure, anytime_figure, latency_figure
from neurosim.report.plots import cores_figure, draw_all, energy_figure, mesh_figure, raster_figure
from neurosim.report.state import fifo_figure, membrane_figure

__all__ = [
    "accuracy_figure",
    "anytime_figure",
    "cores_figure",
    "draw_all",
    "energy_figure",
    "fifo_figure",
    "latency_figure",
    "membrane_figure",
    "mesh_figure",
    "raster_figure",
]
