"""Kill a training process again and again, at random moments and at changes of the disk, and see what it ends with.

Run by test_resume.py as ``python killing.py FOLDER KILLS``: torch is imported once, and every victim is a fork of this
process, which has trained once itself. It must see one thread and no GPU, so that a fork loses nothing. Prints a JSON
summary.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from itertools import cycle
from pathlib import Path

import torch
from torch import nn

from gendyn_lite import data, models
from gendyn_lite.config import RunConfig
from gendyn_lite.train import fit

CONFIG = RunConfig(
    experiment="kill", train_size=160, label_corruption=0.5, model="mlp", model_options={"widths": [32]}, epochs=8,
    batch_size=32, random_crop=1, seed=1,
)  # fmt: skip

CHANGES = {"a change": ("open", "os.rename", "os.remove"), "a write": ("os.rename",)}
"""What a process is killed at, by kind. A write ends in a rename, so that every kill there leaves half a file."""


def train(folder: Path) -> None:
    """A whole run, resumed from `folder`, with dropout, batch-norm and augmentation; its end goes into `folder`."""
    loaded, _ = data.load_for_run(CONFIG)
    torch.default_generator.manual_seed(0)
    mlp = models.build("mlp", num_classes=10, in_shape=loaded.in_shape, widths=[32])
    network = nn.Sequential(nn.BatchNorm2d(1), nn.Dropout(0.2), mlp)
    history = fit(network, loaded, CONFIG, device="cpu", checkpoint_dir=folder / "checkpoints", checkpoint_seconds=0)
    rows = [{key: value for key, value in row.items() if key != "seconds"} for row in history.rows]
    state = {name: tensor.numpy().tobytes().hex() for name, tensor in network.state_dict().items()}
    (folder / "end.json").write_text(json.dumps({"rows": rows, "state": state}))


def kill_at_a_change(number: int, events: tuple[str, ...]) -> None:
    """Arrange for this process to kill itself just before the `number`-th of `events`, half of a write done."""

    def hook(event: str, arguments: tuple) -> None:
        nonlocal number
        if event not in events:
            return
        number -= 1
        if number == 0:
            if event == "os.rename":
                os.truncate(arguments[0], os.path.getsize(arguments[0]) // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def victim(folder: Path, kind: str, chance: random.Random) -> bool:
    """Whether a process that goes on with the training in `folder` was killed before its end."""
    folder.mkdir(exist_ok=True)
    delay, number = chance.uniform(0, 0.2), chance.randint(1, 60 if kind == "a change" else 20)
    child = os.fork()
    if child == 0:
        if kind in CHANGES:
            kill_at_a_change(number, CHANGES[kind])
        else:
            signal.setitimer(signal.ITIMER_REAL, delay)  # its signal, which nothing handles, ends a process at once
        train(folder)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if not os.WIFSIGNALED(status) and status != 0:
        raise SystemExit(f"the victim ended with status {status}")
    return os.WIFSIGNALED(status)


def main(root: Path, kills: int) -> None:
    """Kill at `kills` moments and as many changes, half of them writes; start anew whenever a run gets to its end."""
    torch.set_num_threads(1)
    chance, kinds = random.Random(0), cycle(["a moment", "a change", "a moment", "a write"])
    (root / "whole").mkdir()
    train(root / "whole")
    expected = (root / "whole" / "end.json").read_text()
    counted = ["a moment", "a change", "a write", "resumed in the middle", "half-written files", "ends", "equal"]
    found = dict.fromkeys(counted, 0)
    while min(found["a moment"], 2 * found["a change"], 2 * found["a write"]) < kills:
        folder = root / f"run{found['ends']}"
        while victim(folder, kind := next(kinds), chance):
            files = [path.suffix for path in (folder / "checkpoints").glob("*")]
            found[kind] += 1
            found["half-written files"] += ".gendyn-partial" in files
            found["resumed in the middle"] += ".safetensors" in files
        found["ends"] += 1
        found["equal"] += (folder / "end.json").read_text() == expected
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
