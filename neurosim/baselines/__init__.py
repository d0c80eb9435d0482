"""The same inference elsewhere: analytic GPUs, the papers' formula, NeuroBench's counts. docs/baselines.md states models and sources."""

from neurosim.baselines.compare import BASELINES, compare, compare_run
from neurosim.baselines.device import Device, Estimate, best_batch, devices, infer, load_device, precisions
from neurosim.baselines.formula import neurobench_metrics, paper_formula_fj
from neurosim.baselines.workload import Op, Workload, workload_of

__all__ = [
    "BASELINES",
    "Device",
    "Estimate",
    "Op",
    "Workload",
    "best_batch",
    "compare",
    "compare_run",
    "devices",
    "infer",
    "load_device",
    "neurobench_metrics",
    "paper_formula_fj",
    "precisions",
    "workload_of",
]
