"""The line below a figure that says where its numbers come from."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from gendyn_lite.results.tables import with_sizes

MOST_NAMED = 8  # number of networks and sizes up to which each is named


def _count(number: int, noun: str) -> str:
    """A number and its noun, in the plural unless the number is one."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _spans(numbers: Iterable[int]) -> str:
    """Whole numbers in words; three or more consecutive ones become a range.

    >>> _spans([0, 1, 2, 10, 14, 13])
    '0 to 2, 10, 13, 14'
    """
    spans: list[list[int]] = []
    for number in sorted(set(map(int, numbers))):
        if spans and number == spans[-1][-1] + 1:
            spans[-1].append(number)
        else:
            spans.append([number])
    return ", ".join(f"{span[0]} to {span[-1]}" if len(span) > 2 else ", ".join(map(str, span)) for span in spans)


def _epochs(table: pd.DataFrame) -> str:
    """How many epochs some runs trained for, in words; empty if none has more than one, as without training."""
    last = table.groupby("run_id")["epoch"].max() if "epoch" in table else pd.Series([0])
    if last.max() <= 1:
        return ""
    few = [f"{epoch:g}" for epoch in sorted(set(last))]
    return f", {' or '.join(few) if len(few) < 4 else f'{few[0]} to {few[-1]}'} epochs"


def provenance_line(table: pd.DataFrame) -> str:
    """Say where the numbers of a figure come from: data, networks, runs, seeds, epochs, profile, device and groups.

    The line ends the caption of a figure. Runs of profile smoke are called a demonstration of the method, not evidence.

    Args:
        table: A tidy table, as returned by `load` or `published`.

    Returns:
        The line, in Markdown.

    >>> one = {"run_id": ["a"], "group_id": "0123456789", "data": "digits", "network": "mlp", "n_train": 10}
    >>> provenance_line(pd.DataFrame(one | {"profile": "smoke", "device": "CPU", "seed": 0}))
    'digits; mlp (n = 10); 1 run, 1 seed (0); profile smoke: method demo, not evidence; CPU; groups `01234567`.'
    """
    runs = with_sizes(table.drop_duplicates("run_id"))
    sizes = sorted(set(zip(runs["network"], runs["n_train"], runs["rest"], strict=True)))
    networks = ", ".join(f"{name} (n = {n:,}{more})" for name, n, more in sizes)
    if len(sizes) > MOST_NAMED:
        counts_of = " and ".join(f"n = {n:,}" for n in sorted({n for _, n, _ in sizes}))
        networks = f"{len({name for name, *_ in sizes})} networks ({counts_of})"
    data, devices, profiles = (" and ".join(sorted(set(map(str, runs[of])))) for of in ("data", "device", "profile"))
    demo = ": method demo, not evidence" if profiles == "smoke" else ""
    groups = sorted(set(runs["group_id"]))
    shown = ", ".join(f"`{group[:8]}`" for group in groups[:3]) + (" …" if len(groups) > 3 else "")
    seeds = runs.groupby("group_id")["seed"].nunique()  # settings may have different numbers of seeds

    fewest = f"{seeds.min()} to " if seeds.min() < seeds.max() else ""
    seeds_named = f"{fewest}{_count(seeds.max(), 'seed')} ({_spans(runs['seed'])})"
    counts = f"{_count(len(runs), 'run')}, {seeds_named}{_epochs(table)}"
    return f"{data}; {networks}; {counts}; profile {profiles}{demo}; {devices}; groups {shown}."
