"""What has been run: every published table, at which size, on what, for how long."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from gendyn_lite.results.published import published, published_experiments
from gendyn_lite.results.tables import summarize

SHOWN = 3  # networks that a row names


def status(*, folder: Path | None = None) -> pd.DataFrame:
    """One row for each published experiment, data set, profile and device.

    Args:
        folder: Folder of the published tables.

    Returns:
        ``experiment``, ``data``, ``profile``, ``device``, ``networks`` (names, or how many), ``examples`` (training
        examples, smallest to largest), ``runs``, ``seeds`` (fewest of any setting), ``rows`` (of the published table)
        and ``hours`` of training, summed over runs.

    Raises:
        UserError: A table was edited by hand.
    """
    found = []
    for name in published_experiments(folder=folder):
        table = published(name, folder=folder)
        for keys, rows in table.groupby(["data", "profile", "device"], sort=False):
            runs = summarize(rows)
            found.append(
                {
                    "experiment": name,
                    **dict(zip(("data", "profile", "device"), keys, strict=True)),
                    "networks": _names(list(runs["network"].unique())),
                    "examples": _between(int(runs["n_train"].min()), int(runs["n_train"].max())),
                    "runs": len(runs),
                    "seeds": int(runs.groupby("group_id")["seed"].nunique().min()),
                    "rows": len(rows),
                    "hours": round(float(runs["seconds"].sum()) / 3600, 2),
                }
            )
    return pd.DataFrame(found)


def _names(networks: list[str]) -> str:
    """A few names, or how many there are.

    >>> _names(["mlp", "vgg19"]), _names(list("abcde"))
    ('mlp, vgg19', '5 networks')
    """
    return ", ".join(networks) if len(networks) <= SHOWN else f"{len(networks)} networks"


def _between(low: int, high: int) -> str:
    """A range of counts.

    >>> _between(300, 300), _between(1000, 10000)
    ('300', '1,000 to 10,000')
    """
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
