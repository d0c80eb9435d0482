"""What is kept of a run: the event trace (Parquet), the run directory, the summary, and questions to them. docs/trace.md."""

from neurosim.trace.anytime import Anytime, anytime_curves
from neurosim.trace.causes import Events, events_of
from neurosim.trace.critical import CriticalPath, critical_path
from neurosim.trace.difference import run_difference
from neurosim.trace.pressure import back_pressure
from neurosim.trace.queries import busiest_cores, busiest_links, core_summary, link_summary, trace_rows, trace_window, why_empty
from neurosim.trace.rundir import TRACE, load_run, refuse_foreign, write_run
from neurosim.trace.selection import LEVELS, Level, Selection
from neurosim.trace.store import TraceInfo, TraceWriter, read_trace, trace_info
from neurosim.trace.stored import StoredRun
from neurosim.trace.summary import predict, summarise
from neurosim.trace.why import why_fired

__all__ = [
    "LEVELS",
    "TRACE",
    "Anytime",
    "CriticalPath",
    "Events",
    "Level",
    "Selection",
    "StoredRun",
    "TraceInfo",
    "TraceWriter",
    "anytime_curves",
    "back_pressure",
    "busiest_cores",
    "busiest_links",
    "core_summary",
    "critical_path",
    "events_of",
    "link_summary",
    "load_run",
    "predict",
    "read_trace",
    "refuse_foreign",
    "run_difference",
    "summarise",
    "trace_info",
    "trace_rows",
    "trace_window",
    "why_empty",
    "why_fired",
    "write_run",
]
