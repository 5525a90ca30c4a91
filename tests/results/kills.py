"""Publishes again and again, each time killed one file operation later, and once in peace after each.

``python -m tests.results.kills RUNS TABLES``: prints the number of kills. A process of its own, because it forks.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from itertools import count
from pathlib import Path

from gendyn_lite import results

CHANGES = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir")


def killed(step: int, runs: Path, tables: Path) -> bool:
    """Publish in a child that is killed just before one of its operations in a folder; whether it came that far."""
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
        results.publish("random_labels", root=runs, to=tables)
        os._exit(0)
    return os.waitpid(child, 0)[1] != 0


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def main(runs: Path, tables: Path) -> None:
    place = tables.with_name("place") / "random_labels"
    before = files(tables / "random_labels")
    after = None
    for step in count():
        shutil.rmtree(place.parent, ignore_errors=True)
        shutil.copytree(tables, place.parent)
        ended = not killed(step, runs, place.parent)
        seen = results.published("random_labels", folder=place.parent)["run_id"].nunique()
        results.publish("random_labels", root=runs, to=place.parent)
        after = after or files(place)
        assert seen in (1, 2) and files(place) == after and before.keys() == after.keys() and before != after
        assert {path.name for path in place.parent.iterdir()} == {"random_labels", ".random_labels.lock"}
        if ended:
            sys.stdout.write(str(step))
            return


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
