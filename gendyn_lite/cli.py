"""The command line: ``gendyn data | run | sweep | report | book | student | refresh | configure | results``.

Its exit codes are `gendyn_lite.errors.EXIT_CODES`, whatever the command.
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
CODES += ". Run the same command again to go on: what is complete is loaded, what was interrupted is resumed."


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; what goes wrong is one line on stderr, and an exit code of `gendyn_lite.errors.EXIT_CODES`.

    >>> main(["results", "show", "--folder", "no_such_folder"])
    2
    """
    words = list(sys.argv[1:] if argv is None else argv)
    return answered(lambda: _do(words))


def _do(words: Sequence[str]) -> int:
    """Do what the command line says; gives its exit code."""
    try:
        arguments = _parser(data=words[:1] == ["data"]).parse_args(words)
    except SystemExit as told:  # --help
        return int(told.code or 0)
    return arguments.command(arguments) or 0


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, as all of ours are."""

    def error(self, message: str) -> NoReturn:
        """Refuse the arguments."""
        raise UserError(f"{message}; see {self.prog} --help")


def _parser(*, data: bool = True) -> argparse.ArgumentParser:
    """The parser of every command; the arguments of `data`, which import torch, only where they are asked for."""
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
    add("-p", dest="values", action="append", default=[], metavar="NAME=VALUE", help="a parameter of the chapter")


def _add_run(add: Callable[..., object]) -> None:
    _add_chapter(add)
    add("--out", type=_place, default=Path("_build/runs"), help="folder of the executed notebook")
    add("--yes", action="store_true", help="start without asking, even if it takes over an hour")


def _add_sweep(add: Callable[..., object]) -> None:
    _add_chapter(add, others="; or smoke, colab or full for the runs of all chapters at that size")
    words = "do as many runs as fit a time, for instance 8m; the others remain (default: all)"
    add("--for", dest="time", metavar="TIME", help=words)
    words = "settings of runs, for instance q=0:1:0.1 network=mlp_1x512,mlp_3x512 seed=0..4 (default: the chapter's)"
    add("--grid", nargs="+", action="extend", default=[], metavar="NAME=VALUES", help=words)
    add("--engine", default="local", help="local: this machine; ray: a Ray cluster (default: local)")
    add("--address", default="", help="HOST:PORT of the cluster (default: auto, the one of this machine)")
    add("--workers", type=int, default=0, help="most runs at once on this machine (default: as many as are fastest)")
    add("--cpus-per-run", type=float, default=1, help="cores of a run on a cluster (default: 1)")
    add("--gpus-per-run", type=float, help="GPUs of a run there, such as 0.25 (default: 1 if there are any, else 0)")
    add("--retries", type=int, default=10, help="how often a run whose worker died starts again (default: 10)")
    words = "folder of the runs, seen by every machine (default: GENDYN_RUNS, else ./runs)"
    add("--store", type=lambda text: _place(text) and text, help=words)
    add("--dry-run", action="store_true", help="list the runs and what they will take, and run nothing")


def _add_report(add: Callable[..., object]) -> None:
    add("model", help="FILE.py:FUNCTION or PACKAGE.MODULE:FUNCTION that gives a network, or a name of torchvision's")
    add("--data", required=True, help="a data set, a folder with train/CLASS/* and test/CLASS/*, or x, y, … in an .npz")
    add("--out", type=_place, default=Path("report.html"), help="file to write (default: report.html)")
    add("--weights", type=_place, help="the network's weights: .safetensors, or .pth that holds tensors alone")
    add("--classes", type=int, help="classes of a network of torchvision (default: those of the data)")
    add("--size", type=int, help="side to which the images of a folder are resized and cut")
    add("--standard", default="per_channel", help="inputs as in training: per_channel, per_image, imagenet or none")
    add("--root", help="folder of the prepared data (default: GENDYN_DATA, else ./datasets)")


def _add_book(add: Callable[..., object]) -> None:
    add("--out", type=_place, default=Path("_build"), help="folder to build into (default: _build)")


def _add_student(add: Callable[..., object]) -> None:
    _add_refresh(add)
    add("--out", type=_place, default=Path("student"), help="folder to write into (default: student)")
    add("--no-solutions", action="store_true", help="leave out the solutions of the exercises; hints stay")


def _add_refresh(add: Callable[..., object]) -> None:
    add("chapters", nargs="*", help="names of chapters (default: all)")


def _add_configure(add: Callable[..., object]) -> None:
    words = "its address, for instance https://github.com/OWNER/REPO; an empty one unsets it"
    add("--repository", required=True, metavar="URL", help=words)


def _add_results(add: Callable[..., object]) -> None:
    add("action", choices=RESULTS)
    words = "name of the experiment (default: all that are published; pack: all that were run); unpack: the file"
    add("experiment", nargs="?", help=words)
    add("--root", type=_place, help="folder of the runs (default: ./runs)")
    add("--folder", type=_place, help="folder of the published tables (default: book/results)")
    add("--out", type=_place, help="pack: the file to write, for results unpack elsewhere (default: runs.xz)")
    for verb, what in (("replace", "take the local runs in place of"), ("withdraw", "drop")):
        words = f"publish: {what} these published runs; old and new are listed"
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

    names = ("address", "workers", "cpus_per_run", "gpus_per_run", "retries")
    resources = Resources(*(getattr(arguments, name) for name in names))
    command.check(arguments.engine, resources)
    seconds = math.inf if arguments.time is None else seconds_of(arguments.time)
    if arguments.engine != "local" and arguments.time is not None:
        raise UserError("--for is of the local engine: leave --engine out")
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
    print("\n".join(f"changed: {path}" for path in changed) or "nothing to change: it is written everywhere already")


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
    """Refuse options that are for another action, and the lack of a name."""
    action, runs = arguments.action, arguments.replace or arguments.withdraw
    if arguments.out and action != "pack":
        raise UserError(f"results {action} writes no file: --out is for results pack")
    if action in ("pack", "unpack") and (arguments.folder or runs):
        words = "--folder, --replace and --withdraw are for published tables"
        raise UserError(f"results {action} only moves runs: {words}")
    if action in ("verify", "show") and runs:
        raise UserError(f"results {action} changes nothing: --replace and --withdraw are for results publish")
    if action == "unpack" and not arguments.experiment:
        raise UserError("results unpack needs a file that gendyn results pack wrote, for instance runs.xz")
    if action == "publish" and not arguments.experiment:
        raise UserError("results publish needs the name of an experiment, for instance random_labels")


def _look(arguments: argparse.Namespace) -> None:
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
    """A path that was given; an empty one, as of an unset variable, is refused."""
    if not text:
        raise argparse.ArgumentTypeError("it is empty, expected a path")
    return Path(text)


RESULTS = {"publish": "published", "verify": "", "show": "", "pack": "packed", "unpack": "taken in"}  # done to runs
COMMANDS = {
    "run": ("run a chapter at one size, outside the book", _add_run, _run),
    "sweep": ("the runs of a chapter or of a grid, on many machines", _add_sweep, _sweep),
    "report": ("what the five lenses show of a network of your own", _add_report, _report),
    "book": ("run every chapter (smoke) and render the book", _add_book, _book),
    "student": ("write plain notebooks, for JupyterLab, VS Code and Colab", _add_student, _student),
    "refresh": ("execute committed notebooks in place", _add_refresh, _refresh),
    "configure": ("write the project's address where it belongs", _add_configure, _configure),
    "results": ("publish, verify or show tables of finished runs; pack and unpack the runs", _add_results, _results),
}


if __name__ == "__main__":
    sys.exit(main())
