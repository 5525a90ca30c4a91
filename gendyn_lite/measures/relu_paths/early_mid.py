"""Early-to-mid ratio of cross-path similarity: one number of a training run, to be held against its generalization."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gendyn_lite.errors import UserError


def early_to_mid_ratio(values: Mapping[int, float], milestones: Sequence[int], *, last: int | None = None) -> float:
    """Mean similarity before the first decay of the learning rate, divided by the mean in the second stage.

    The value of epoch t compares it with epoch t−1, and milestones are finished epochs, as in `RunConfig`. So the first
    stage has the values of epochs 1 … m₁ and the second those of m₁+1 … m₂. (The paper does not say over which layers
    it averages: take one, or the mean over layers.)

    Args:
        values: Epoch → mean cross-path similarity over pairs, for instance of ``recording.cross_path_means(layer)``.
        milestones: Epochs after which the learning rate decays.
        last: Where the second stage ends if there is one milestone only; None for the last epoch of `values`.

    Raises:
        UserError: There is no milestone, an epoch of a stage is missing, or the second mean is 0.

    Source: Fig. 7 (Sec. 8, "Ratio of early to mid cross path overlap").

    >>> early_to_mid_ratio({1: 0.5, 2: 0.75, 3: 0.5, 4: 0.75, 5: 0.9}, milestones=[2, 4])
    1.0
    """
    if not milestones:
        raise UserError("there is no milestone: an early and a mid stage need a schedule with at least one decay")
    first, *later = sorted(milestones)
    end = later[0] if later else (max(values, default=0) if last is None else last)
    if not 1 <= first < end:
        raise UserError(f"the stages are epochs 1 to {first} and {first + 1} to {end}: expected at least one in each")
    early, mid = _mean(values, 1, first), _mean(values, first + 1, end)
    if mid == 0:
        raise UserError(f"the mean over epochs {first + 1} to {end} is 0: the ratio is not defined")
    return early / mid


def _mean(values: Mapping[int, float], start: int, stop: int) -> float:
    """Mean over the epochs from start to stop, all of which must be there."""
    missing = [epoch for epoch in range(start, stop + 1) if epoch not in values]
    if missing:
        raise UserError(
            f"epoch {missing[0]} is missing from the recording (it has {epochs_told(values)}): record every epoch of "
            f"{start} to {stop}"
        )
    return sum(values[epoch] for epoch in range(start, stop + 1)) / (stop - start + 1)


def epochs_told(epochs: Mapping[int, object] | Sequence[int]) -> str:
    """Epochs in a few words.

    >>> epochs_told([0, 1, 2, 5])
    'epochs 0, 1, 2, 5'
    >>> epochs_told(range(90))
    '90 epochs from 0 to 89'
    """
    found = sorted(epochs)
    if not found:
        return "no epochs"
    if len(found) > 12:
        return f"{len(found)} epochs from {found[0]} to {found[-1]}"
    return f"epoch{'s' if len(found) > 1 else ''} {', '.join(map(str, found))}"
