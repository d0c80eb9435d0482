"""The same inference elsewhere: analytic GPUs, the papers' formula, NeuroBench's counts. docs/baselines.md states models and sources."""

from neurosim.baselines.compare import BASELINES, Comparison, compare, compare_run
from neurosim.baselines.device import Device, Estimate, best_batch, devices, infer, load_device, precisions
from neurosim.baselines.formula import neurobench_metrics, paper_formula_fj
from neurosim.baselines.measure import Record, measure, read_record, shipped_records
from neurosim.baselines.workload import Op, Workload, workload_of

__all__ = [
    "BASELINES",
    "Comparison",
    "Device",
    "Estimate",
    "Op",
    "Record",
    "Workload",
    "best_batch",
    "compare",
    "compare_run",
    "devices",
    "infer",
    "load_device",
    "measure",
    "neurobench_metrics",
    "paper_formula_fj",
    "precisions",
    "read_record",
    "shipped_records",
    "workload_of",
]
