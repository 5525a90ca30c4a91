"""What a plain notebook for students prints first: what it found on this machine and how long its chapter takes."""

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
from gendyn_lite.results.runs import PROFILES, runs_root
from gendyn_lite.sweep.cost import Cost, estimated, in_words, measured_runs, said, total
from gendyn_lite.train.device import device_name

UNCOUNTED = (
    "apart from training, the page takes less than a minute on two cores; "
    "measurements during training are included only if a similar run is complete on this machine"
)
TRIAL = 1.0  # seconds per profile for timing a few steps of runs like none that was measured on this machine
DRIVE = Path("/content/drive")
Plans = Mapping[str, Sequence[RunConfig]]  # the runs of a chapter, by profile


def ready(chapter: str, *, version: str, runs: str = "") -> None:
    """Print what a notebook finds on this machine; the set-up cell of every plain notebook calls this.

    If vl-convert is installed, charts are afterwards drawn without a network connection.

    Args:
        chapter: Name of the chapter.
        version: Version of the package that the notebook was written by.
        runs: Folder of the trained networks, or ``"drive"`` for a folder on Google Drive; if empty, the default folder.

    Raises:
        UserError: ``"drive"`` was given outside of Colab, or the folder cannot be created.
    """
    colab = "google.colab" in sys.modules  # imported by Colab's kernels
    if runs:
        os.environ["GENDYN_RUNS"] = str(_drive(colab) if runs == "drive" else Path(runs).expanduser().resolve())
        with disk_errors(runs_root()):
            runs_root().mkdir(parents=True, exist_ok=True)
    lines = [f"gendyn_lite {gendyn_lite.__version__}, torch {torch.__version__}, Python {platform.python_version()}"]
    if version != gendyn_lite.__version__:
        lines.append(
            f"This notebook was written by gendyn_lite {version}, but {gendyn_lite.__version__} is installed: "
            f"write it again (gendyn student {chapter}), or install the version that wrote it"
        )
    lines += [_device(colab), f"data: {data_root().resolve()}", _runs()]
    trains = chapter in registry.NOTEBOOKS
    plans = {name: registry.unique(registry.planned(chapter, name, {})) for name in PROFILES if trains}
    for line in chain(lines, _interrupted(plans), _times(chapter, plans)):
        print(line, flush=True)  # noqa: T201 (this is its purpose)
    if not colab and importlib.util.find_spec("vl_convert"):  # on Colab, outputs cannot share a script
        script = vega().replace("</script", "<\\/script")
        display(HTML(f'<script data-gendyn="live">{script}</script>'))


def _drive(colab: bool) -> Path:
    """Mount Google Drive; returns its folder of runs."""
    if not colab:
        raise UserError('runs = "drive" works only on Google Colab: name a folder, or leave it empty')
    from google.colab import drive  # type: ignore[import-not-found]  # exists only on Colab

    drive.mount(str(DRIVE))
    return DRIVE / "MyDrive" / "gendyn_lite" / "runs"


def _runs() -> str:
    """Which folder trained networks are saved in, and a warning if it is read-only."""
    root = runs_root().resolve()
    there = next(path for path in (root, *root.parents) if path.exists())
    return f"runs: {root}" + ("" if os.access(there, os.W_OK) else " (read-only: name another folder in runs above)")


def _device(colab: bool) -> str:
    """Which device networks will be trained on."""
    name = device_name()
    if name != "CPU":
        return f"GPU: {name}"
    hint = " (Colab has one: Runtime, Change runtime type)" if colab else ""
    return f"no GPU{hint}: networks are trained on the processor, {os.cpu_count()} cores"


def _times(chapter: str, plans: Plans) -> Iterator[str]:
    """How long the runs of a chapter take on this machine with each profile; finding out takes some seconds."""
    if any(chapter == each.notebook for each in registry.CHAPTERS if not each.trains):
        yield "this chapter trains no network; its computing time is stated next to its parameter `profile`"
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
    """How long some runs take in words; a lower bound if only some of them were estimated."""
    if (seconds := total(found)) is not None:
        return said(seconds)
    tried = [cost.seconds for cost in found if cost.seconds is not None]
    return f"over {in_words(sum(tried))}, which {len(tried)} of its runs take" if tried else said(None)


def _interrupted(plans: Plans) -> list[str]:
    """A line on runs that were interrupted, for instance by a disconnect, if there are any."""
    experiments = {config.experiment for configs in plans.values() for config in configs}
    folders = (path for name in experiments for path in (runs_root() / name).glob("*/checkpoints"))
    stopped = [path for path in folders if any(path.iterdir())]
    told = f"interrupted runs: {len(stopped)}; each continues from its last checkpoint, at most half a minute old"
    return [told] if stopped else []
