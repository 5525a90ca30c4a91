"""Kill a training process again and again, with SIGKILL, and see what it ends with.

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
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from gendyn_lite import data, models
from gendyn_lite.config import RunConfig
from gendyn_lite.train import checkpoint, fit

CONFIG = RunConfig(
    experiment="kill", train_size=160, label_corruption=0.5, model="mlp", model_options={"widths": [32]}, epochs=8,
    batch_size=32, random_crop=1, seed=1,
)  # fmt: skip


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


def fork(folder: Path, before: Callable[[], None] = lambda: None) -> int:
    """Start a victim."""
    folder.mkdir(parents=True, exist_ok=True)
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        before()
        train(folder)
        status = 0
    finally:
        os._exit(status)


def wait(child: int) -> str:
    """How a victim ended: "killed" or "finished"."""
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return "killed"
    if status == 0:
        return "finished"
    raise SystemExit(f"the victim ended with status {status}")


def die_in_a_write(number: int, moment: str) -> None:
    """Arrange for a victim to kill itself in its `number`-th checkpoint write: half written, unnamed, or just named."""
    calls = 0
    fsync, replace = os.fsync, os.replace

    def counted(name: str) -> bool:
        nonlocal calls
        calls += name == moment
        return name == moment and calls == number

    def dying_fsync(descriptor: int) -> None:
        if os.path.isfile(f"/dev/fd/{descriptor}") and counted("half written"):
            os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        fsync(descriptor)

    def dying_replace(source: Path, target: Path) -> None:
        if counted("unnamed"):
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)
        if counted("just named"):
            os.kill(os.getpid(), signal.SIGKILL)

    checkpoint.os.fsync, checkpoint.os.replace = dying_fsync, dying_replace  # type: ignore[assignment]


def main(root: Path, kills: int) -> None:
    """Kill at `kills` random moments, and in as many writes again; start anew whenever a run gets to its end."""
    torch.set_num_threads(1)
    chance = random.Random(0)
    (root / "whole").mkdir()
    train(root / "whole")
    started = time.monotonic()
    wait(fork(root / "again"))
    whole_seconds = time.monotonic() - started
    expected = (root / "whole" / "end.json").read_text()
    found = {"random": 0, "in a write": 0, "resumed in the middle": 0, "half-written files": 0, "ends": 0, "equal": 0}
    moments = ("half written", "unnamed", "just named")
    number = 0
    while found["random"] < kills or found["in a write"] < kills:
        number += 1
        folder = root / f"run{number}"
        ended = ""
        while ended != "finished":
            in_a_write = found["random"] >= kills or (found["in a write"] < kills and chance.random() < 0.5)
            if in_a_write:
                nth, moment = chance.randint(1, 12), moments[found["in a write"] % 3]
                ended = wait(fork(folder, lambda nth=nth, moment=moment: die_in_a_write(nth, moment)))
            else:
                child = fork(folder)
                time.sleep(chance.uniform(0, 0.5 * whole_seconds))
                os.kill(child, signal.SIGKILL)
                ended = wait(child)
            found["in a write" if in_a_write else "random"] += ended == "killed"
            files = list((folder / "checkpoints").glob("*")) + list((folder / "checkpoints").glob(".*"))
            found["half-written files"] += any(path.suffix == ".part" for path in files)
            found["resumed in the middle"] += ended == "killed" and any(path.suffix == ".safetensors" for path in files)
            if found["random"] >= kills and found["in a write"] >= kills:
                ended = wait(fork(folder))
        found["ends"] += 1
        found["equal"] += (folder / "end.json").read_text() == expected
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
