"""``gendyn run``: a chapter at a size, its cost said first, its progress meanwhile, its record kept afterwards."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from gendyn_lite import notebooks
from gendyn_lite.chapters import registry
from gendyn_lite.config import RunConfig
from gendyn_lite.errors import UserError
from gendyn_lite.notebooks.chapters import roots
from gendyn_lite.sweep.cost import Cost, device_name, estimated, measured_runs, said, total

HOUR = 3600.0


def run_chapter(
    chapter: str, *, profile: str = "smoke", values: Mapping[str, Any] | None = None, out: Path, yes: bool = False
) -> Path:
    """Check, estimate, ask where it takes more than an hour, run, and keep the notebook and its record.

    Args:
        chapter: Name of the chapter.
        profile: ``"smoke"``, ``"colab"`` or ``"full"``.
        values: Other parameters of the chapter.
        out: Folder of the executed notebook and its record.
        yes: Whether to begin without a question, however long it takes.

    Returns:
        The executed notebook.

    Raises:
        UserError: Something is wrong with what was asked for, or it takes more than an hour and nobody said yes.
        Failed: A cell raised; it is named.
    """
    path, changed = notebooks.checked(chapter, profile=profile, values=values)
    given = {name: value for name, value in changed.items() if name != "profile"}
    device, places = device_name(), roots()
    configs = registry.unique(registry.planned(chapter, profile, given))
    found = estimated(configs, device=device, root=places["GENDYN_RUNS"], data_root=places["GENDYN_DATA"])
    before = notebooks.read_record(chapter, profile, out=out)
    seconds = _seconds(found, before if before and before.device == device else None)
    sys.stdout.write(f"estimate: {_estimate(found, seconds, device, before)}\n")
    sys.stdout.flush()
    _consent(path.stem, seconds, yes=yes, stream=sys.stdin)
    todo = [cost.config for cost in found if not cost.complete]
    with notebooks.Live(path.stem, expected=seconds) as live:
        return notebooks.run_recorded(
            chapter,
            profile=profile,
            values=given,
            out=out,
            live=live,
            device=device,
            trained=lambda: _trained(todo, places["GENDYN_RUNS"]),
        )


def _seconds(found: Sequence[Cost], before: notebooks.Record | None) -> float | None:
    """Seconds of the runs, and of everything else in the chapter as it was measured last."""
    runs = total(found)
    if before is None:
        return runs if found else None
    return None if runs is None else runs + max(0.0, before.seconds - before.training_seconds)


def _estimate(found: Sequence[Cost], seconds: float | None, device: str, before: notebooks.Record | None) -> str:
    """The estimate in one line, for instance ``about 12 minutes on CPU; 21 runs, 18 of them complete; 0.9 GB``."""
    parts = [f"{said(seconds)} on {device}"]
    if found:
        done = sum(cost.complete for cost in found)
        parts.append(f"{len(found)} runs, {done} of them complete")
    gpu = f", {before.gpu_bytes / 1e9:.1f} GB of the GPU's" if before and before.gpu_bytes else ""
    parts.append(f"{before.peak_bytes / 1e9:.1f} GB of memory{gpu}" if before else "memory not measured yet")
    return "; ".join(parts)


def _consent(chapter: str, seconds: float | None, *, yes: bool, stream: TextIO) -> None:
    """Ask on a terminal before a chapter of more than an hour, and refuse elsewhere.

    Raises:
        UserError: Nobody said yes.
    """
    if yes or seconds is None or seconds <= HOUR:
        return
    takes = f"{chapter} would take {said(seconds)}"
    if not stream.isatty():
        raise UserError(f"{takes}, more than an hour: say --yes to begin, or take a smaller profile or parameters")
    sys.stdout.write(f"{takes}; what is complete is kept if you stop it. Begin? [y/N] ")
    sys.stdout.flush()
    if stream.readline().strip().lower() not in ("y", "yes"):
        raise UserError(f"{takes}: not begun, as you chose")


def _trained(todo: Sequence[RunConfig], root: str) -> float:
    """Seconds that went into the runs that were not complete before and are now."""
    wanted = [config.as_dict() for config in todo]
    known = measured_runs((config.experiment for config in todo), root=root)
    return sum(each.seconds for each in known if each.config in wanted)
