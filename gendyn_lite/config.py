"""The configuration of a run: a frozen, validated dataclass of exactly the settings that change its results."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import asdict, dataclass, field, fields, replace
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from gendyn_lite.errors import UserError, check_name, is_text, shown, unknown_name

INPUTS = ("true", "shuffled_pixels", "random_pixels", "gaussian")
MASKS = ("fisher", "fisher_per_layer", "magnitude", "random", "random_fixed", "shorter_steps")
CHOICES = {
    "inputs": INPUTS,
    "schedule": ("constant", "exponential", "step", "cosine"),
    "standardize": ("per_image", "per_channel", "none"),
    "precision": ("float32", "bfloat16", "float16"),
    "mask_by": MASKS,
    "batch_norm_statistics": ("running", "re-estimated"),
    "eval_schedule": ("regular", "early"),
}

# name → (lowest, highest, whether the lowest is allowed); the highest always is.
COUNTS = ("train_size", "test_size", "epochs", "batch_size", "center_crop", "eval_every", "probe_version")
RANGES: dict[str, tuple[float, float, bool]] = {
    **dict.fromkeys(COUNTS, (1, math.inf, True)),
    **dict.fromkeys(("label_corruption", "momentum"), (0, 1, True)),
    **dict.fromkeys(("decay", "mask_keep"), (0, 1, False)),
    **dict.fromkeys(("weight_decay", "random_crop"), (0, math.inf, True)),
    **dict.fromkeys(("learning_rate", "stop_at_loss"), (0, math.inf, False)),
    "seed": (0, 2**31 - 1, True),
}
# Fields that were added after runs had been published. With their default values they are not part of a run's key, so
# that the keys of earlier runs have not changed.
ADDED_LATER = ("test_size", "mask_keep", "mask_by", "batch_norm_statistics", "probe_version", "stop_at_loss")
ADDED_LATER += ("eval_schedule",)
LARGEST = 2**63 - 1  # largest whole number that arrays can hold
DEEPEST, LONGEST = 8, 4096  # most levels of model_options; most characters of a text, which may be a path


@dataclass(frozen=True)
class RunConfig:
    """One training run: all settings that change its results. Paths, devices and logging are not among them.

    Attributes:
        experiment: The experiment that the run belongs to, for instance ``"random_labels"``.
        dataset: Name of a data set, as for `gendyn_lite.data.load`.
        train_size: Number of training examples (class-balanced subset), or None for all of them.
        label_corruption: Probability q with which each training label is redrawn uniformly from all classes.
        inputs: ``"true"`` or a kind of `gendyn_lite.data.randomize_inputs`.
        model: Name of a network, as for `gendyn_lite.models.build`.
        model_options: Options of that network; JSON values only.
        epochs: Largest number of epochs to train.
        batch_size: Examples per step.
        learning_rate: Learning rate of the first epoch.
        momentum: Momentum of SGD (0 is plain SGD).
        weight_decay: Coefficient of the L2 penalty, as in torch's SGD.
        schedule: How the learning rate changes over epochs: ``"constant"``, ``"exponential"`` (multiplied by `decay`
            after each epoch), ``"step"`` (multiplied by `decay` after each of `milestones`) or ``"cosine"`` (to 0 at
            `epochs`).
        decay: Factor of the exponential and step schedules.
        milestones: Epochs after which the step schedule decays.
        center_crop: Side of the centre crop taken from every image, or None.
        random_crop: Padding in pixels of the random crop (0: none).
        flip: Whether images are mirrored at random.
        standardize: ``"per_image"`` (zero mean, unit variance of each image), ``"per_channel"`` or ``"none"``.
        precision: Precision of the forward and backward pass: ``"float32"``, ``"bfloat16"`` or ``"float16"``.
        stop_when_fitted: Whether training stops at the first evaluation at which all training labels are fitted.
        eval_every: Number of epochs between two evaluations on the whole training and test sets.
        seed: Seed of the weights, the label corruption, the subsets and the order of examples.
        test_size: Number of test examples (class-balanced subset), or None for all of them.
        mask_keep: Fraction of the weights that the gradient mask allows to change (1: no mask).
        mask_by: How the mask chooses these weights: by Fisher information over the whole network (``"fisher"``) or in
            each layer (``"fisher_per_layer"``), by ``"magnitude"``, at ``"random"`` again in each epoch, or at random
            once (``"random_fixed"``). Or no mask, but steps as short as with the mask by Fisher (``"shorter_steps"``).
        batch_norm_statistics: Statistics that batch-norm uses when the network is evaluated or measured: ``"running"``
            ones, which lag behind the weights, or ones ``"re-estimated"`` on the training set with the current
            weights. Training itself is the same.
        probe_version: Version of what the run's probes measure. When a probe changes what it measures, its version is
            increased, so that results of old runs are not taken for it.
        stop_at_loss: Training stops at the first evaluation with at most this mean training loss (nats); None: never.
        eval_schedule: ``"regular"`` (every `eval_every` epochs); or ``"early"``, for what changes most at the start:
            after 1/16, 1/8, 1/4 and 1/2 of the first epoch, after each epoch up to 8, then twice per doubling.

    Raises:
        UserError: A value has the wrong type, is out of range or is not a valid name.

    >>> RunConfig(experiment="random_labels", label_corruption=0.5).label_corruption
    0.5
    >>> RunConfig(experiment="random_labels", label_corruption=1.5)
    Traceback (most recent call last):
    gendyn_lite.errors.UserError: label_corruption is 1.5, expected a number in [0, 1]
    """

    experiment: str
    dataset: str = "digits"
    train_size: int | None = None
    label_corruption: float = 0.0
    inputs: str = "true"
    model: str = "mlp_1x512"
    model_options: dict[str, Any] = field(default_factory=dict, hash=False)
    epochs: int = 60
    batch_size: int = 128
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: str = "exponential"
    decay: float = 0.95
    milestones: tuple[int, ...] = ()
    center_crop: int | None = None
    random_crop: int = 0
    flip: bool = False
    standardize: str = "per_image"
    precision: str = "float32"
    stop_when_fitted: bool = False
    eval_every: int = 1
    seed: int = 0
    test_size: int | None = None
    mask_keep: float = 1.0
    mask_by: str = "fisher"
    batch_norm_statistics: str = "running"
    probe_version: int = 1
    stop_at_loss: float | None = None
    eval_schedule: str = "regular"

    def __post_init__(self) -> None:
        """Normalize numbers, so that 1 and 1.0 give the same run, and refuse invalid values."""
        for item in fields(self):
            value = check_type(item.name, vars(self)[item.name], HINTS[item.name])
            object.__setattr__(self, item.name, value)
            if item.name in RANGES and value is not None:
                check_range(item.name, value, *RANGES[item.name])
            if item.name in CHOICES and value not in CHOICES[item.name]:
                raise unknown_name(item.name, value, CHOICES[item.name])
        check_name("experiment", self.experiment)
        kind, folder, path = self.dataset.partition("folder:")
        if not (path if folder and not kind else self.dataset.isprintable() and self.dataset.strip()):
            raise UserError(f"dataset is {shown(self.dataset)}, expected a name in one line, or folder:PATH")
        if any(not 1 <= epoch <= LARGEST for epoch in self.milestones):
            raise UserError(f"milestones is {shown(self.milestones)}, expected epochs of at least 1")
        if self.eval_schedule == "early" and self.eval_every > 1:
            told = f"eval_every is {self.eval_every}, but eval_schedule='early' has fixed times of evaluation"
            raise UserError(f"{told}: leave eval_every at 1")
        object.__setattr__(self, "model_options", _plain_options(vars(self)["model_options"]))

    def as_dict(self) -> dict[str, Any]:
        """All fields as JSON values."""
        return json.loads(canonical(asdict(self)))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> RunConfig:
        """The configuration in a config.json.

        Raises:
            UserError: A field is unknown to this version, or a value is invalid.
        """
        if not isinstance(values, dict):
            raise UserError(f"a configuration is {shown(values)}, expected its fields by name")
        _check_fields(values)
        return cls(**values)

    def replace(self, **changes: Any) -> RunConfig:
        """A copy with some fields changed, which is validated again."""
        _check_fields(changes)
        return replace(self, **changes)

    def run_id(self, data_fingerprint: str) -> str:
        """The key of the run, 16 hexadecimal digits: equal for equal settings on equal data."""
        return digest(self._keyed() | {"data_fingerprint": data_fingerprint})

    def group_id(self, data_fingerprint: str) -> str:
        """The key shared by runs that differ only in the seed, 16 hexadecimal digits."""
        settings = {name: value for name, value in self._keyed().items() if name != "seed"}
        return digest(settings | {"data_fingerprint": data_fingerprint})

    def _keyed(self) -> dict[str, Any]:
        """The settings that are part of the key."""
        unused = {item.name: item.default for item in fields(self) if item.name in ADDED_LATER}
        return {name: value for name, value in self.as_dict().items() if value != unused.get(name, ...)}


HINTS = get_type_hints(RunConfig)  # the type of each field; computed once, as it takes two milliseconds
# Reading model_options returns a copy, so that nobody can change a configuration after its validation.
RunConfig.model_options = property(  # type: ignore[assignment]
    lambda self: deepcopy(vars(self)["model_options"]), lambda self, options: vars(self).update(model_options=options)
)


def _check_fields(names: Iterable[str]) -> None:
    """Check that all names are fields of a configuration."""
    for name in names:
        if name not in HINTS:
            raise unknown_name("config field", name, HINTS)


def canonical(values: Any) -> str:
    """JSON with sorted keys and without spaces, so that equal values give equal text.

    Raises:
        UserError: A value cannot be written as JSON.
    """
    try:
        return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        expected = "JSON values only (numbers, text, lists, true, false)"
        raise UserError(f"model_options must hold {expected}: {error}") from None


def _plain_options(options: dict[str, Any]) -> dict[str, Any]:
    """A copy of a network's options as JSON values; options that are nested too deeply or too long are refused."""
    text, level, depth = canonical(options), [options], 0
    while level and depth < DEEPEST:
        inner = [value for each in level for value in (each.values() if isinstance(each, dict) else each)]
        level, depth = [value for value in inner if isinstance(value, dict | list | tuple)], depth + 1
    if level or len(text) > LONGEST:
        raise UserError(f"model_options has more than {DEEPEST} levels or {LONGEST:,} characters, as no network's have")
    return json.loads(text, parse_float=lambda number: float(number) + 0.0)  # turns -0.0 into 0.0


def digest(values: Any) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of the canonical JSON."""
    return hashlib.sha256(canonical(values).encode()).hexdigest()[:16]


def check_type(name: str, value: Any, hint: Any) -> Any:
    """Check that a value has the type of an annotation, and return it in this type.

    Integers are accepted as floats, and lists as tuples; a bool is not accepted as a number.

    Args:
        name: Name of the value in messages.
        value: Any value.
        hint: A type, ``tuple[int, ...]``, or either of them ``| None``.

    Raises:
        UserError: The value has another type, or is too large a number or too long a text.

    >>> check_type("decay", 1, float), check_type("train_size", None, int | None)
    (1.0, None)
    >>> check_type("epochs", True, int)
    Traceback (most recent call last):
    gendyn_lite.errors.UserError: epochs is True (bool), expected a whole number
    """
    plain, *rest = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    wanted, optional = get_origin(plain) or plain, bool(rest)
    if value is None and optional:
        return None
    if wanted is float and type(value) is int:
        _check_size(name, value)
        return float(value)
    if wanted is float and type(value) is float:
        return value + 0.0  # turns -0.0 into 0.0
    if wanted is tuple and isinstance(value, list | tuple):
        return tuple(check_type(f"an item of {name}", item, int) for item in value)
    if isinstance(value, str) and (len(value) > LONGEST or not is_text(value)):
        raise UserError(f"{name} is {shown(value)}, expected text of up to {LONGEST:,} Unicode characters without NUL")
    if type(value) is wanted:
        return value
    expected = {"int": "a whole number", "float": "a number", "str": "text", "bool": "True or False"}
    kind = expected.get(wanted.__name__, f"a {wanted.__name__}") + (" or None" if optional else "")
    raise UserError(f"{name} is {shown(value)} ({type(value).__name__}), expected {kind}")


def _check_size(name: str, value: int) -> None:
    """Refuse whole numbers that are too large for an array of int64."""
    if abs(value) > LARGEST:
        raise UserError(f"{name} is {shown(value)}, expected a number of at most 2**63 - 1")


def check_range(name: str, value: float, low: float, high: float, closed: bool) -> None:
    """Check that a number is finite and in its range.

    Args:
        name: Name of the number in messages.
        value: The number.
        low: Lower bound.
        high: Upper bound, which is allowed itself; infinity for none.
        closed: Whether the lower bound is allowed itself.

    Raises:
        UserError: It is not; the message names the range.

    >>> check_range("decay", 0.0, 0, 1, False)
    Traceback (most recent call last):
    gendyn_lite.errors.UserError: decay is 0.0, expected a number in (0, 1]
    """
    if isinstance(value, int):
        _check_size(name, value)
    inside = (value >= low if closed else value > low) and value <= high and math.isfinite(value)
    if not inside:  # always true for NaN
        bounds = f"{'[' if closed else '('}{low:g}, {'∞)' if math.isinf(high) else f'{high:g}]'}"
        kind = "a whole number" if isinstance(value, int) else "a number"
        raise UserError(f"{name} is {value!r}, expected {kind} in {bounds}")
