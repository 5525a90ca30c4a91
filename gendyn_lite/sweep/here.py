"""What a plain notebook says first: what it found here, how long its chapter takes, and what was interrupted."""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

import torch
from IPython.display import HTML, display

import gendyn_lite
from gendyn_lite.chapters import registry
from gendyn_lite.charts.figure import vega
from gendyn_lite.config import RunConfig
from gendyn_lite.data.loading import data_root
from gendyn_lite.errors import UserError, disk_errors
from gendyn_lite.results.runs import runs_root
from gendyn_lite.sweep.cost import Cost, estimated, in_words, measured_runs, said, total
from gendyn_lite.train.device import device_name

PROFILES = ("smoke", "colab", "full")
UNCOUNTED = (
    "beside training the page takes less than a minute on two cores; "
    "what is measured during training is not counted where no run like it is complete here"
)
TRIAL = 1.0  # seconds for each profile, in which runs that were never measured here are tried after the first one
DRIVE = Path("/content/drive")
Plans = Mapping[str, Sequence[RunConfig]]  # what a chapter trains at each size


def ready(chapter: str, *, version: str, runs: str = "") -> None:
    """Say what a notebook finds on this machine; the set-up cell of every plain notebook calls it.

    Charts are then drawn without a network where vl-convert is installed.

    Args:
        chapter: Name of the chapter.
        version: Of the package that made the notebook.
        runs: Folder of the trained networks, ``"drive"`` for one on Google Drive; empty for that of the environment.

    Raises:
        UserError: ``"drive"`` was asked for elsewhere than on Colab, or no folder can be made there.
    """
    colab = "google.colab" in sys.modules  # its kernels import it
    if runs:
        os.environ["GENDYN_RUNS"] = str(_drive(colab) if runs == "drive" else Path(runs).expanduser().resolve())
        with disk_errors(runs_root()):
            runs_root().mkdir(parents=True, exist_ok=True)
    lines = [f"gendyn_lite {gendyn_lite.__version__}, torch {torch.__version__}, Python {platform.python_version()}"]
    if version != gendyn_lite.__version__:
        lines.append(
            f"This notebook was made by gendyn_lite {version}, and {gendyn_lite.__version__} is installed: "
            f"make it anew (gendyn student {chapter}), or install the version that made it"
        )
    lines += [_device(colab), f"data: {data_root().resolve()}", _runs()]
    trains = chapter in registry.NOTEBOOKS
    plans = {name: registry.unique(registry.planned(chapter, name, {})) for name in PROFILES if trains}
    for line in chain(lines, _interrupted(plans), _times(chapter, plans)):
        print(line, flush=True)  # noqa: T201 (what it is for)
    if not colab and importlib.util.find_spec("vl_convert"):  # there, no output sees the script of another
        script = vega().replace("</script", "<\\/script")
        display(HTML(f'<script data-gendyn="live">{script}</script>'))


def _drive(colab: bool) -> Path:
    """The folder of runs on Google Drive, which is mounted."""
    if not colab:
        raise UserError('runs = "drive" is for Google Colab: name a folder, or leave it empty')
    from google.colab import drive  # type: ignore[import-not-found]  # of Colab alone

    drive.mount(str(DRIVE))
    return DRIVE / "MyDrive" / "gendyn_lite" / "runs"


def _runs() -> str:
    """Where trained networks are kept, and whether that can be written to."""
    root = runs_root().resolve()
    there = next(path for path in (root, *root.parents) if path.exists())
    return f"runs: {root}" + ("" if os.access(there, os.W_OK) else " (read-only: name another folder in runs above)")


def _device(colab: bool) -> str:
    """What networks will be trained on."""
    name = device_name()
    if name != "CPU":
        return f"GPU: {name}"
    hint = " (Colab has one: Runtime, Change runtime type)" if colab else ""
    return f"no GPU{hint}: training takes the processor, {os.cpu_count()} cores"


def _times(chapter: str, plans: Plans) -> Iterator[str]:
    """How long the runs of a chapter take here at each size; to find out takes seconds."""
    if any(chapter == each.notebook for each in registry.CHAPTERS if not each.trains):
        yield "this chapter trains no network; how long it solves is said beside its parameter profile"
    elif not plans:
        yield "this chapter trains nothing: it takes less than a minute"
    known = measured_runs(config.experiment for configs in plans.values() for config in configs)
    for profile, configs in plans.items():
        try:
            found = estimated(configs, device=device_name(), trial=TRIAL, known=known)
            done = sum(cost.complete for cost in found)
            yield f"profile {profile}: training takes {_words(found)}; {len(found)} runs, {done} of them complete"
        except UserError as error:
            yield f"profile {profile}: {error}"
    if plans:
        yield UNCOUNTED


def _words(found: Sequence[Cost]) -> str:
    """What some runs take, where not all of them were tried at least that."""
    if (seconds := total(found)) is not None:
        return said(seconds)
    tried = [cost.seconds for cost in found if cost.seconds is not None]
    return f"over {in_words(sum(tried))}, which {len(tried)} of its runs take" if tried else said(None)


def _interrupted(plans: Plans) -> list[str]:
    """What is told of runs that were stopped on their way, by a disconnect for instance."""
    experiments = {config.experiment for configs in plans.values() for config in configs}
    folders = (path for name in experiments for path in (runs_root() / name).glob("*/checkpoints"))
    stopped = [path for path in folders if any(path.iterdir())]
    told = f"runs interrupted: {len(stopped)}; each goes on from its last checkpoint, at most half a minute old"
    return [told] if stopped else []
