"""What is kept of a run: the event trace (Parquet), the run directory, the summary, and questions to them. docs/trace.md."""

from neurosim.trace.queries import busiest_cores, busiest_links, core_summary, link_summary, trace_rows, trace_window
from neurosim.trace.rundir import StoredRun, load_run, refuse_foreign, write_run
from neurosim.trace.selection import LEVELS, Level, Selection
from neurosim.trace.store import TraceInfo, TraceWriter, read_trace, trace_info
from neurosim.trace.summary import predict, summarise

__all__ = [
    "LEVELS",
    "Level",
    "Selection",
    "StoredRun",
    "TraceInfo",
    "TraceWriter",
    "busiest_cores",
    "busiest_links",
    "core_summary",
    "link_summary",
    "load_run",
    "predict",
    "read_trace",
    "refuse_foreign",
    "summarise",
    "trace_info",
    "trace_rows",
    "trace_window",
    "write_run",
]
