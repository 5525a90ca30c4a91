"""Publishes or unpacks again and again, each time killed one file operation later, and once in peace after each.

``python -m tests.results.kills RUNS TABLES``, ``... PACK RUNS``: prints the number of kills. A process of its own,
because it forks.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path

from gendyn_lite import results
from gendyn_lite.results import packing
from gendyn_lite.results.runs import read_run, run_folders

CHANGES = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir")


def killed(step: int, act: Callable[[], object]) -> bool:
    """Do something in a child that is killed just before one of its changes in a folder; whether it came that far."""
    child = os.fork()
    if child == 0:
        left = step

        def watch(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal left
            if event in CHANGES and (event != "open" or str(arguments[1]).startswith("w")):
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(watch)
        act()
        os._exit(0)
    return os.waitpid(child, 0)[1] != 0


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def unpack(pack: Path, runs: Path) -> None:
    """Every run is whole or not complete at any instant, and the next time all are there and nothing else is."""
    place = runs.with_name("place")
    for step in count():
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(runs, place)
        ended = not killed(step, lambda: packing.unpack(pack, root=place))
        seen = [read_run(path).whole() for path in run_folders(place / "random_labels")]
        done = packing.unpack(pack, root=place)
        assert done == ([f"unpacked: {2 - sum(seen)} runs; there already: {sum(seen)}"], [])
        left = [path for path in (place / "random_labels").iterdir() if path.suffix != ".lock"]
        assert [read_run(path).whole() for path in left] == [True, True]
        assert {path.name for path in place.rglob("*.*") if path.suffix != ".lock"} == set(packing.FILES)
        if ended:
            sys.stdout.write(str(step))
            return


def main(runs: Path, tables: Path) -> None:
    place = tables.with_name("place") / "random_labels"
    before = files(tables / "random_labels")
    after = None
    for step in count():
        shutil.rmtree(place.parent, ignore_errors=True)
        shutil.copytree(tables, place.parent)
        ended = not killed(step, lambda: results.publish("random_labels", root=runs, to=place.parent))
        seen = results.published("random_labels", folder=place.parent)["run_id"].nunique()
        results.publish("random_labels", root=runs, to=place.parent)
        after = after or files(place)
        assert seen in (1, 2) and files(place) == after and before.keys() == after.keys() and before != after
        assert {path.name for path in place.parent.iterdir()} == {"random_labels", ".random_labels.lock"}
        if ended:
            sys.stdout.write(str(step))
            return


if __name__ == "__main__":
    given = [Path(word) for word in sys.argv[1:]]
    (unpack if given[0].is_file() else main)(*given)
