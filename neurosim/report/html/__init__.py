"""``neurosim report``: one self-contained HTML page about a run, or several side by side. Rebuilt from run directories alone."""

from neurosim.report.html.page import write_report

__all__ = ["write_report"]
