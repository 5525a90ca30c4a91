"""A folder of real images, and an experiment on such a folder in two processes under torchrun."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from PIL import Image
from sklearn.datasets import load_sample_images

from gendyn_lite.results.runs import Run, read_run


def write(folder: Path, *, side: int) -> Path:
    """Windows of the two photographs that scikit-learn brings: six to train on and two to test with, of each."""
    for name, picture in zip(("china", "flower"), load_sample_images().images, strict=True):
        for number in range(8):
            place = folder / ("train" if number < 6 else "test") / name
            place.mkdir(parents=True, exist_ok=True)
            window = picture[100 : 100 + side, 60 * number : 60 * number + side]
            Image.fromarray(window).save(place / f"{number}.png")
    return folder


def run_in_two_processes(
    experiment: ModuleType, words: Iterable[str], config: dict[str, Any], *, root: Path, python: Iterable[str] = ()
) -> tuple[Run, str]:
    """The one run that a command (words) on photographs records under root, and what it says on stderr."""
    command = [sys.executable, *python, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", experiment.__name__, *words, "-p", f"dataset=folder:{write(root / 'photographs', side=80)}"]
    command += [word for name, value in config.items() for word in ("-p", f"{name}={value}")]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "GENDYN_RUNS": str(root)}
    environment["GENDYN_DATA"] = str(root / "data")
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-4000:]
    (folder,) = [path for path in root.glob("imagenet_*/*") if path.is_dir()]
    return read_run(folder), done.stderr
