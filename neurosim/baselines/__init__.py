"""The same inference elsewhere: analytic GPUs, the papers' formula, NeuroBench's counts. docs/baselines.md states models and sources."""

from neurosim.baselines.compare import BASELINES, compare, compare_run
from neurosim.baselines.formula import neurobench_metrics, paper_formula_fj
from neurosim.baselines.gpu import Estimate, Gpu, best_batch, gpus, infer, load_gpu
from neurosim.baselines.workload import Op, Workload, workload_of

__all__ = [
    "BASELINES",
    "Estimate",
    "Gpu",
    "Op",
    "Workload",
    "best_batch",
    "compare",
    "compare_run",
    "gpus",
    "infer",
    "load_gpu",
    "neurobench_metrics",
    "paper_formula_fj",
    "workload_of",
]
