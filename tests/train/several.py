"""What test_distributed.py runs under torchrun: ``several.py FOLDER``. Each process writes what it ended with."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from gendyn_lite import data, models
from gendyn_lite.config import RunConfig
from gendyn_lite.train import fit

# 150 examples in batches of 31: the last batch has 26, and no batch is shared equally by two processes.
BASE = RunConfig(experiment="several", train_size=150, label_corruption=0.5, batch_size=31, epochs=2, seed=1)
CONFIGS = {
    "mlp": BASE.replace(model="mlp", model_options={"widths": [32]}),
    # Two steps: from the third on, batch-norm makes of a rounding error a tenth of the way that weights go.
    "batch-norm": BASE.replace(model="inception_small", learning_rate=0.01, epochs=1, batch_size=75),
    "augmented": BASE.replace(model="mlp", model_options={"widths": [32]}, random_crop=1, weight_decay=0.01),
}


class StoppedError(Exception):
    """Stands for a kill of all processes."""


def stop(model: nn.Module, *, epoch: int, step: int) -> None:
    """A gradient hook that ends the run in its second epoch."""
    if step == 8:
        raise StoppedError


def network(config: RunConfig, loaded: data.ImageData, *, dropout: float = 0.0) -> nn.Module:
    """The network of a run, with dropout before it."""
    built = models.build(
        config.model, num_classes=10, in_shape=loaded.in_shape, seed=config.seed, **config.model_options
    )
    return nn.Sequential(nn.Dropout(dropout), built) if dropout else built


def main(folder: Path) -> None:
    """Every configuration; then one with dropout, whole, and stopped and resumed."""
    torch.set_num_threads(1)
    rank = int(os.environ["RANK"])
    seen = []
    for name, config in CONFIGS.items():
        loaded, _ = data.load_for_run(config)
        model = network(config, loaded)
        history = fit(model, loaded, config, device="cpu", on_epoch=seen.append)
        save(model, history.rows, folder / f"{name}.{rank}")
    (folder / f"reported.{rank}").write_text(str(len(seen)))
    config = CONFIGS["mlp"]
    loaded, _ = data.load_for_run(config)
    whole, resumed = (network(config, loaded, dropout=0.5) for _ in range(2))
    save(whole, fit(whole, loaded, config, device="cpu").rows, folder / f"whole.{rank}")
    options = {"device": "cpu", "checkpoint_dir": folder / "checkpoints", "checkpoint_seconds": 0}
    try:
        fit(network(config, loaded, dropout=0.5), loaded, config, grad_hook=stop, **options)
    except StoppedError:
        history = fit(resumed, loaded, config, **options)
        assert history.resumed_at == [7], history.resumed_at
        save(resumed, history.rows, folder / f"resumed.{rank}")


def save(model: nn.Module, rows: list[dict], path: Path) -> None:
    """Weights and the rows' numbers as one safetensors file."""
    numbers = [[value for key, value in row.items() if key != "seconds"] for row in rows]
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(state | {"rows": torch.tensor(numbers, dtype=torch.float64)}, f"{path}.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
