"""The command line: ``gendyn data | run | sweep | report | book | student | refresh | configure | results``.

All commands have the exit codes of `gendyn_lite.errors.EXIT_CODES`.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from gendyn_lite.arguments import answered, pairs, seconds_of
from gendyn_lite.errors import EXIT_CODES, UserError

CODES = "Exit codes: " + "; ".join(f"{code} {words}" for code, words in EXIT_CODES.items())
CODES += ". After an interruption, run the same command again: complete runs are loaded, interrupted ones resumed."


def main(argv: Sequence[str] | None = None) -> int:
    """Execute one command; an error becomes one line on stderr and an exit code of `gendyn_lite.errors.EXIT_CODES`.

    Args:
        argv: The arguments (default: those of the process).

    >>> main(["results", "show", "--folder", "no_such_folder"])
    2
    """
    words = list(sys.argv[1:] if argv is None else argv)
    return answered(lambda: _do(words))


def _do(words: Sequence[str]) -> int:
    """Execute what the command line says; returns the exit code."""
    try:
        arguments = _parser(data=words[:1] == ["data"]).parse_args(words)
    except SystemExit as told:  # raised by --help
        return int(told.code or 0)
    return arguments.command(arguments) or 0


class _Parser(argparse.ArgumentParser):
    """A parser that raises a UserError, so that its errors are one line like all others."""

    def error(self, message: str) -> NoReturn:
        """Raise an error about the arguments."""
        raise UserError(f"{message}; see {self.prog} --help")


def _parser(*, data: bool = True) -> argparse.ArgumentParser:
    """The parser of all commands. The arguments of `data` are added only on request, because they import torch."""
    parser = _Parser(prog="gendyn", description="Why over-parameterized networks generalize.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    prepare = commands.add_parser("data", help="fetch or import a data set, verify and prepare it")
    if data:
        from data_scripts import cli as data_cli

        data_cli.add_arguments(prepare)
        prepare.set_defaults(command=data_cli.run)
    for name, (words, add, command) in COMMANDS.items():
        one = commands.add_parser(name, help=words, epilog=CODES)
        add(one.add_argument)
        one.set_defaults(command=command)
    return parser


def _add_chapter(add: Callable[..., object], *, others: str = "") -> None:
    add("chapter", help=f"name of a chapter, for instance 01_random_labels{others}")
    add("--profile", default="smoke", help="size of its runs: smoke, colab or full (default: smoke)")
    add("-p", dest="values", action="append", default=[], metavar="NAME=VALUE", help="set a parameter of the chapter")


def _add_run(add: Callable[..., object]) -> None:
    _add_chapter(add)
    add("--out", type=_place, default=Path("_build/runs"), help="folder of the executed notebook")
    add("--yes", action="store_true", help="start without asking, even if it takes over an hour")


def _add_sweep(add: Callable[..., object]) -> None:
    _add_chapter(add, others="; or smoke, colab or full for the runs of all chapters at that size")
    words = "time limit such as 8m, within which as many runs as possible are done (default: none)"
    add("--for", dest="time", metavar="TIME", help=words)
    words = "settings of the runs, such as q=0:1:0.1 network=mlp_1x512,mlp_3x512 seed=0..4 (default: the chapter's)"
    add("--grid", nargs="+", action="extend", default=[], metavar="NAME=VALUES", help=words)
    add("--engine", default="local", help="local: this machine; ray: a Ray cluster (default: local)")
    add("--address", default="", help="HOST:PORT of the cluster (default: the cluster that this machine belongs to)")
    words = "largest number of runs at once on this machine (default: the number that is fastest)"
    add("--workers", type=int, default=0, help=words)
    add("--cpus-per-run", dest="cpus", type=float, default=1, help="cores per run on a cluster (default: 1)")
    words = "GPUs per run on a cluster, such as 0.25 (default: 1 if it has any, else 0)"
    add("--gpus-per-run", dest="gpus", type=float, help=words)
    add("--retries", type=int, default=10, help="how often a run is restarted if its worker dies (default: 10)")
    words = "folder of the runs, which every machine must see (default: GENDYN_RUNS, else ./runs)"
    add("--store", type=lambda text: _place(text) and text, help=words)
    add("--dry-run", action="store_true", help="list the runs and how long they will take, without running any")


def _add_report(add: Callable[..., object]) -> None:
    add("model", help="FILE.py:FUNCTION or PACKAGE.MODULE:FUNCTION that returns a network, or a model of torchvision")
    add("--data", required=True, help="a data set, a folder with train/CLASS/* and test/CLASS/*, or x, y, … in an .npz")
    add("--out", type=_place, default=Path("report.html"), help="file to write (default: report.html)")
    add("--weights", type=_place, help="the network's weights: .safetensors, or a .pth that holds only tensors")
    add("--classes", type=int, help="number of classes of a torchvision model (default: that of the data)")
    add("--size", type=int, help="side that the images of a folder are resized and cropped to")
    words = "how inputs were standardized in training: per_channel, per_image, imagenet or none (default: per_channel)"
    add("--standard", default="per_channel", help=words)
    add("--root", help="folder of the prepared data (default: GENDYN_DATA, else ./datasets)")


def _add_book(add: Callable[..., object]) -> None:
    add("--out", type=_place, default=Path("_build"), help="folder to build into (default: _build)")


def _add_student(add: Callable[..., object]) -> None:
    _add_refresh(add)
    add("--out", type=_place, default=Path("student"), help="folder to write into (default: student)")
    add("--no-solutions", action="store_true", help="leave out the solutions of the exercises, but keep hints")


def _add_refresh(add: Callable[..., object]) -> None:
    add("chapters", nargs="*", help="names of chapters (default: all)")


def _add_configure(add: Callable[..., object]) -> None:
    words = "address of the repository, such as https://github.com/OWNER/REPO; an empty one unsets it"
    add("--repository", required=True, metavar="URL", help=words)


def _add_results(add: Callable[..., object]) -> None:
    add("action", choices=RESULTS)
    words = "name of the experiment (default: all published ones; for pack: all runs); for unpack: the file"
    add("experiment", nargs="?", help=words)
    add("--root", type=_place, help="folder of the runs (default: ./runs)")
    add("--folder", type=_place, help="folder of the published tables (default: book/results)")
    add("--out", type=_place, help="for pack: the file to write (default: runs.xz)")
    for verb, what in (("replace", "by the local ones"), ("withdraw", "from the tables")):
        words = f"for publish: {verb} these published runs {what}; what changes is listed"
        add(f"--{verb}", nargs="+", action="extend", default=[], metavar="RUN_ID", help=words)


def _run(arguments: argparse.Namespace) -> None:
    from gendyn_lite import notebooks

    values = pairs(arguments.values)
    notebooks.checked(arguments.chapter, profile=arguments.profile, values=values)  # before torch is imported
    from gendyn_lite.sweep.command import run_chapter

    options = {"profile": arguments.profile, "values": values, "out": arguments.out, "yes": arguments.yes}
    print(f"executed notebook: {run_chapter(arguments.chapter, **options)}")


def _sweep(arguments: argparse.Namespace) -> None:
    started = time.monotonic()
    from gendyn_lite.sweep import command
    from gendyn_lite.sweep.grid import plan
    from gendyn_lite.sweep.jobs import Resources

    resources = Resources(*(getattr(arguments, name) for name in Resources._fields))
    command.check(arguments.engine, resources)
    seconds = math.inf if arguments.time is None else seconds_of(arguments.time)
    if arguments.engine != "local" and arguments.time is not None:
        raise UserError("--for works only with the local engine: leave out --engine")
    values = pairs(arguments.values)
    options = {"profile": arguments.profile, "values": values, "grid": arguments.grid, "store": arguments.store or ""}
    jobs = plan(arguments.chapter, **options)
    if arguments.dry_run:
        command.dry_run(jobs)
    else:
        done = command.sweep(
            jobs, engine=arguments.engine, resources=resources, seconds=seconds + started - time.monotonic()
        )
        print(f"{done}; they are in {jobs[0].store}")


def _report(arguments: argparse.Namespace) -> None:
    from gendyn_lite.reports.loading import reported

    path = reported(arguments, say=lambda line: print(line, file=sys.stderr))
    print(f"report: {path}, with its numbers in {path.with_suffix('.json')}")


def _book(arguments: argparse.Namespace) -> None:
    from gendyn_lite import book

    print(f"the book: {book.build(out=arguments.out)}")


def _student(arguments: argparse.Namespace) -> None:
    from gendyn_lite import notebooks

    names = arguments.chapters or notebooks.chapters()
    for path in notebooks.student(names, out=arguments.out, solutions=not arguments.no_solutions):
        print(f"plain notebook: {path}")


def _refresh(arguments: argparse.Namespace) -> None:
    from gendyn_lite import notebooks

    for chapter in arguments.chapters or notebooks.chapters():
        notebooks.refresh(chapter)
        print(f"executed in place: {chapter}")


def _configure(arguments: argparse.Namespace) -> None:
    from gendyn_lite.notebooks.committed import configure

    changed = configure(arguments.repository)
    print("\n".join(f"changed: {path}" for path in changed) or "nothing to change: the address is set already")


def _results(arguments: argparse.Namespace) -> int | None:
    action, name = arguments.action, arguments.experiment
    _check_results(arguments)
    if action in ("verify", "show"):
        return _look(arguments)
    from gendyn_lite import results
    from gendyn_lite.results import packing

    if action == "pack":
        found = packing.pack(name, root=arguments.root, out=arguments.out or "runs.xz")
    elif action == "unpack":
        found = packing.unpack(name, root=arguments.root)
    else:
        named = {"replace": arguments.replace, "withdraw": arguments.withdraw}
        found = results.publish(name, root=arguments.root, to=arguments.folder, **named)
    print("\n".join(found.done))
    for line in found.refused:
        print(f"gendyn: not {RESULTS[action]}: {line}", file=sys.stderr)
    return 1 if found.refused else 0


def _check_results(arguments: argparse.Namespace) -> None:
    """Check that the options belong to the action, and that a name is given if it is needed."""
    action, runs = arguments.action, arguments.replace or arguments.withdraw
    if arguments.out and action != "pack":
        raise UserError(f"results {action} writes no file: --out is for results pack")
    if action in ("pack", "unpack") and (arguments.folder or runs):
        words = "--folder, --replace and --withdraw are for published tables"
        raise UserError(f"results {action} only moves runs: {words}")
    if action in ("verify", "show") and runs:
        raise UserError(f"results {action} changes nothing: --replace and --withdraw are for results publish")
    if action == "unpack" and not arguments.experiment:
        raise UserError("results unpack needs a file written by gendyn results pack, for instance runs.xz")
    if action == "publish" and not arguments.experiment:
        raise UserError("results publish needs the name of an experiment, for instance random_labels")


def _look(arguments: argparse.Namespace) -> None:
    """Show or verify published tables."""
    from gendyn_lite import notebooks, results

    names = [arguments.experiment] if arguments.experiment else results.published_experiments(folder=arguments.folder)
    if not names:
        raise UserError("nothing is published yet: gendyn results publish EXPERIMENT")
    for name in names:
        if arguments.action == "verify":
            print(results.verify_experiment(name, root=arguments.root, folder=arguments.folder))
        else:
            table = results.published(name, folder=arguments.folder)
            print(f"{name}: {table['run_id'].nunique()} runs, {len(table)} rows")
            print(results.overview(table).to_string(index=False))
    if arguments.action == "verify" and arguments.experiment is None and arguments.folder is None:
        benchmarks = [results.benchmark(name) for name in results.benchmark_names()]
        print(f"benchmarks: {len(benchmarks)} tables, as published")
        captions = notebooks.verify_figures(notebooks.chapter_path(name) for name in notebooks.chapters())
        print(f"figures: {captions} captions, each with rows behind it")


def _place(text: str) -> Path:
    """Convert an argument to a path; an empty one, as from an unset shell variable, is refused."""
    if not text:
        raise argparse.ArgumentTypeError("it is empty, expected a path")
    return Path(text)


# Actions of `gendyn results`, and how a message says that an action was not done to a run.
RESULTS = {"publish": "published", "verify": "", "show": "", "pack": "packed", "unpack": "unpacked"}
COMMANDS = {
    "run": ("execute a chapter at one size, outside of the book", _add_run, _run),
    "sweep": ("execute the runs of a chapter or of a grid, on one or many machines", _add_sweep, _sweep),
    "report": ("measure your own network with the five lenses", _add_report, _report),
    "book": ("execute every chapter (profile smoke) and render the book", _add_book, _book),
    "student": ("write plain notebooks for JupyterLab, VS Code and Colab", _add_student, _student),
    "refresh": ("execute committed notebooks in place", _add_refresh, _refresh),
    "configure": ("set the project's address in _config.yml and the chapters", _add_configure, _configure),
    "results": ("publish, verify or show tables of finished runs; pack and unpack the runs", _add_results, _results),
}


if __name__ == "__main__":
    sys.exit(main())
