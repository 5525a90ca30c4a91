"""Run folders, the tidy tables made of them, and the tables that the book publishes. No torch is needed here."""

from gendyn_lite.results.published import (
    benchmark,
    benchmark_line,
    benchmark_names,
    publish_benchmark,
    published,
    published_experiments,
    verify,
)
from gendyn_lite.results.publishing import publish
from gendyn_lite.results.runs import Run, RunWriter, open_run, runs_root
from gendyn_lite.results.tables import (
    fit_epoch,
    load,
    load_runs,
    mean_interval,
    overview,
    provenance_line,
    summarize,
    with_sizes,
)
from gendyn_lite.results.verification import status, verify_benchmarks, verify_experiment, verify_figures

__all__ = [
    "Run",
    "RunWriter",
    "benchmark",
    "benchmark_line",
    "benchmark_names",
    "fit_epoch",
    "load",
    "load_runs",
    "mean_interval",
    "open_run",
    "overview",
    "provenance_line",
    "publish",
    "publish_benchmark",
    "published",
    "published_experiments",
    "runs_root",
    "status",
    "summarize",
    "verify",
    "verify_benchmarks",
    "verify_experiment",
    "verify_figures",
    "with_sizes",
]
