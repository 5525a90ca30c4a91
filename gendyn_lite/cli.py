"""The command line: ``gendyn data | run | sweep | book | refresh | configure | results``.

Its exit codes are `gendyn_lite.errors.EXIT_CODES`, whatever the command.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from gendyn_lite.arguments import answered, pairs
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
    odd = next((word for word in words if "\0" in word), None)
    if odd is not None:
        raise UserError(f"{odd!r} holds a NUL character, which no name can")
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
    _add_run(commands.add_parser("run", help="run a chapter at one size, outside the book", epilog=CODES))
    _add_sweep(commands.add_parser("sweep", help="the runs of a chapter or of a grid, on many machines", epilog=CODES))
    _add_book(commands.add_parser("book", help="run every chapter (smoke) and render the book"))
    _add_refresh(commands.add_parser("refresh", help="execute committed notebooks in place"))
    _add_configure(commands.add_parser("configure", help="write the project's address where it belongs"))
    _add_results(commands.add_parser("results", help="publish, verify or show the tables of finished runs"))
    return parser


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("chapter", help="name of a chapter, for instance 01_random_labels")
    parser.add_argument("--profile", default="smoke", help="smoke, colab or full (default: smoke)")
    parser.add_argument("-p", dest="values", action="append", default=[], metavar="NAME=VALUE", help="a parameter")
    parser.add_argument("--out", type=_place, default=Path("_build/runs"), help="folder of the executed notebook")
    parser.add_argument("--yes", action="store_true", help="begin without a question, also if it takes over an hour")
    parser.set_defaults(command=_run)


def _add_sweep(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("chapter", help="name of a chapter, for instance 01_random_labels")
    add("--profile", default="smoke", help="whose settings the runs take: smoke, colab or full (default: smoke)")
    add("-p", dest="values", action="append", default=[], metavar="NAME=VALUE", help="a parameter of the chapter")
    words = "settings of runs, for instance q=0:1:0.1 network=mlp_1x512,mlp_3x512 seed=0..4 (default: the chapter's)"
    add("--grid", nargs="+", action="extend", default=[], metavar="NAME=VALUES", help=words)
    add("--engine", default="local", help="local: one after another; ray: a cluster, or every core (default: local)")
    add("--address", default="", help="HOST:PORT of a Ray cluster, or auto on it (default: one of its own, here)")
    add("--workers", type=int, default=0, help="runs at once on a Ray of this machine (default: one for each core)")
    add("--cpus-per-run", type=float, default=1, help="cores of a run (default: 1)")
    add("--gpus-per-run", type=float, help="GPUs of a run, for instance 0.25 (default: 1 where there are some, else 0)")
    add("--retries", type=int, default=10, help="how often a run whose worker died begins again (default: 10)")
    words = "folder of the runs, seen by every machine (default: GENDYN_RUNS, else ./runs)"
    add("--store", type=lambda text: _place(text) and text, help=words)
    add("--dry-run", action="store_true", help="list the runs and what they will take, and run nothing")
    parser.set_defaults(command=_sweep)


def _add_book(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=_place, default=Path("_build"), help="folder to build into (default: _build)")
    parser.set_defaults(command=_book)


def _add_refresh(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("chapters", nargs="*", help="names of chapters (default: all)")
    parser.set_defaults(command=_refresh)


def _add_configure(parser: argparse.ArgumentParser) -> None:
    words = "its address, for instance https://github.com/OWNER/REPO; an empty one is none"
    parser.add_argument("--repository", required=True, metavar="URL", help=words)
    parser.set_defaults(command=_configure)


def _add_results(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("publish", "verify", "show"))
    parser.add_argument("experiment", nargs="?", help="name of the experiment (default: all that are published)")
    parser.add_argument("--root", type=_place, help="folder of the runs (default: ./runs)")
    parser.add_argument("--folder", type=_place, help="folder of the published tables (default: book/results)")
    for verb, what in (("replace", "take the runs at hand in place of"), ("withdraw", "drop")):
        words = f"publish: {what} these published runs; old and new are listed"
        parser.add_argument(f"--{verb}", nargs="+", action="extend", default=[], metavar="RUN_ID", help=words)
    parser.set_defaults(command=_results)


def _run(arguments: argparse.Namespace) -> None:
    from gendyn_lite import notebooks

    values = pairs(arguments.values)
    notebooks.checked(arguments.chapter, profile=arguments.profile, values=values)  # before torch is imported
    from gendyn_lite.sweep.chapter import run_chapter

    options = {"profile": arguments.profile, "values": values, "out": arguments.out, "yes": arguments.yes}
    print(f"executed notebook: {run_chapter(arguments.chapter, **options)}")


def _sweep(arguments: argparse.Namespace) -> None:
    from gendyn_lite.sweep import command
    from gendyn_lite.sweep.on_ray import Resources

    names = ("address", "workers", "cpus_per_run", "gpus_per_run", "retries")
    resources = Resources(*(getattr(arguments, name) for name in names))
    command.check(arguments.engine, resources)
    values = pairs(arguments.values)
    options = {"profile": arguments.profile, "values": values, "grid": arguments.grid, "store": arguments.store or ""}
    jobs = command.plan(arguments.chapter, **options)
    if arguments.dry_run:
        command.dry_run(jobs)
    else:
        print(f"{command.sweep(jobs, engine=arguments.engine, resources=resources)}; they are in {jobs[0].store}")


def _book(arguments: argparse.Namespace) -> None:
    from gendyn_lite import book

    print(f"the book: {book.build(out=arguments.out)}")


def _refresh(arguments: argparse.Namespace) -> None:
    from gendyn_lite import notebooks

    for chapter in arguments.chapters or notebooks.chapters():
        notebooks.refresh(chapter)
        print(f"executed in place: {chapter}")


def _configure(arguments: argparse.Namespace) -> None:
    from gendyn_lite.notebooks.chapters import configure

    changed = configure(arguments.repository)
    print("\n".join(f"changed: {path}" for path in changed) or "nothing to change: it is written everywhere already")


def _results(arguments: argparse.Namespace) -> int | None:
    from gendyn_lite import results

    if arguments.action == "publish":
        return _publish(arguments)
    if arguments.replace or arguments.withdraw:
        raise UserError(f"results {arguments.action} changes nothing: --replace and --withdraw are for results publish")
    names = [arguments.experiment] if arguments.experiment else results.published_experiments(folder=arguments.folder)
    if not names:
        raise UserError("nothing is published yet: gendyn results publish EXPERIMENT")
    for name in names:
        if arguments.action == "verify":
            found = results.verify_experiment(name, root=arguments.root, folder=arguments.folder)
            again = f"{found.recomputed} of {found.runs} runs are available locally and reproduce the rows"
            print(f"{name}: {found.runs} runs, {found.rows} rows, as published; {again}")
        else:
            table = results.published(name, folder=arguments.folder)
            print(f"{name}: {table['run_id'].nunique()} runs, {len(table)} rows")
            print(results.overview(table).to_string(index=False))
    if arguments.action == "verify" and arguments.experiment is None and arguments.folder is None:  # the whole book
        from gendyn_lite import notebooks

        paths = [notebooks.chapter_path(name) for name in notebooks.chapters()]
        print(f"benchmarks: {results.verify_benchmarks()} tables, as published")
        print(f"figures: {results.verify_figures(paths)} captions, each with rows behind it")
    return None


def _publish(arguments: argparse.Namespace) -> int:
    from gendyn_lite import results

    if not arguments.experiment:
        raise UserError("results publish needs the name of an experiment, for instance random_labels")
    names = {"replace": arguments.replace, "withdraw": arguments.withdraw}
    found = results.publish(arguments.experiment, root=arguments.root, to=arguments.folder, **names)
    print("\n".join([*found.done, f"published: {found.folder}"]))
    for line in found.refused:
        print(f"gendyn: not published: {line}", file=sys.stderr)
    return 1 if found.refused else 0


def _place(text: str) -> Path:
    """A path that was given; an empty one, as of an unset variable, is none."""
    if not text:
        raise argparse.ArgumentTypeError("it is empty, expected a path")
    return Path(text)


if __name__ == "__main__":
    sys.exit(main())
