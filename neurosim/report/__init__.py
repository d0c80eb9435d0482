"""Pictures of a stored run. matplotlib is an extra and is imported when the first picture is drawn."""

from neurosim.report.plots import cores_figure, draw_all, energy_figure, mesh_figure, raster_figure

__all__ = ["cores_figure", "draw_all", "energy_figure", "mesh_figure", "raster_figure"]
