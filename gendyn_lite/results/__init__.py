"""Run folders, tidy tables of runs, and the tables that the book publishes. Nothing here imports torch."""

from gendyn_lite.results.benchmarks import benchmark, benchmark_line, benchmark_names, publish_benchmark, status
from gendyn_lite.results.files import published_experiments
from gendyn_lite.results.published import provenance_line, published
from gendyn_lite.results.publishing import publish, verify_experiment
from gendyn_lite.results.runs import open_run, runs_root
from gendyn_lite.results.tables import load, load_runs, mean_interval, overview, summarize
