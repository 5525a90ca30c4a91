"""What makes two runs different in their numbers, and nothing else: a frozen, validated configuration."""

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

# name -> (lowest, highest, lowest is allowed); the highest always is.
COUNTS = ("train_size", "test_size", "epochs", "batch_size", "center_crop", "eval_every", "probe_version")
RANGES: dict[str, tuple[float, float, bool]] = {
    **dict.fromkeys(COUNTS, (1, math.inf, True)),
    **dict.fromkeys(("label_corruption", "momentum"), (0, 1, True)),
    **dict.fromkeys(("decay", "mask_keep"), (0, 1, False)),
    **dict.fromkeys(("weight_decay", "random_crop"), (0, math.inf, True)),
    **dict.fromkeys(("learning_rate", "stop_at_loss"), (0, math.inf, False)),
    "seed": (0, 2**31 - 1, True),
}
# Fields that came after runs had been published: at their default they are no part of a key, which stays what it was.
ADDED_LATER = ("test_size", "mask_keep", "mask_by", "batch_norm_statistics", "probe_version", "stop_at_loss")
ADDED_LATER += ("eval_schedule",)
LARGEST = 2**63 - 1  # whole number that arrays can hold
DEEPEST, LONGEST = 8, 4096  # levels of model_options; characters of a text, which may be a path


@dataclass(frozen=True)
class RunConfig:
    """One training run: every setting that changes its numbers. Paths, devices and logging are not here.

    Attributes:
        experiment: The experiment that the run belongs to, for instance ``"random_labels"``.
        dataset: A name that `gendyn_lite.data.load` knows.
        train_size: Number of training examples (class-balanced subset), or None for all of them.
        label_corruption: Fraction q of training labels redrawn uniformly from all classes.
        inputs: ``"true"`` or a kind of `gendyn_lite.data.randomize_inputs`.
        model: A name that `gendyn_lite.models.build` knows.
        model_options: Options of that network, JSON values only.
        epochs: Most epochs to train.
        batch_size: Examples a step.
        learning_rate: Step size of the first epoch.
        momentum: Momentum of SGD (0 is plain SGD).
        weight_decay: Coefficient of the L2 penalty, as in torch's SGD.
        schedule: How the step size changes over epochs: ``"constant"``, ``"exponential"`` (times `decay` each epoch),
            ``"step"`` (times `decay` at each of `milestones`) or ``"cosine"`` (to 0 at `epochs`).
        decay: Factor of the exponential and step schedules.
        milestones: Epochs at which the step schedule decays.
        center_crop: Side of the centre crop taken from every image, or None.
        random_crop: Padding in pixels of the random crop (0: none).
        flip: Whether images are mirrored at random.
        standardize: ``"per_image"`` (zero mean, unit variance of each image), ``"per_channel"`` or ``"none"``.
        precision: Arithmetic of the forward and backward pass on a GPU.
        stop_when_fitted: Whether training stops at the first evaluation with every training label fitted.
        eval_every: Epochs between two evaluations over the whole training and test set.
        seed: Seed of the weights, the label corruption, the subsets and the order of examples.
        test_size: Number of test examples (class-balanced subset), or None for all of them.
        mask_keep: Share of the weights that the gradient mask lets move (1: no mask).
        mask_by: How it chooses them: by Fisher information over the whole network (``"fisher"``) or within each layer
            (``"fisher_per_layer"``), by ``"magnitude"``, at ``"random"`` anew each epoch, at random once and for all
            (``"random_fixed"``); or no mask, but each step as long as with that by Fisher (``"shorter_steps"``).
        batch_norm_statistics: What batch-norm normalizes by whenever the network is evaluated or measured: its
            ``"running"`` statistics, which lag behind the weights, or statistics ``"re-estimated"`` over the training
            set with the weights as they are. Training itself is the same.
        probe_version: Version of what the run's probes measure. A probe that comes to measure something else gets a
            new version, so that it is never answered with the values of an old run.
        stop_at_loss: Training stops at the first evaluation with a mean training loss of at most this, or never (None).
        eval_schedule: ``"regular"``, every `eval_every` epochs; or ``"early"``, for what changes most at the start:
            after 1/16, 1/8, 1/4 and 1/2 of the first epoch, every epoch to 8, then by logarithm, twice a doubling.

    Raises:
        UserError: A value has the wrong type, is outside its range or is no valid name.

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
        """Normalize numbers (1 and 1.0 are one run) and refuse what is wrong before anything runs."""
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
            told = f"eval_every is {self.eval_every}, but eval_schedule='early' says when"
            raise UserError(f"{told}: leave eval_every at 1")
        object.__setattr__(self, "model_options", _plain_options(vars(self)["model_options"]))

    def as_dict(self) -> dict[str, Any]:
        """Every field as JSON values."""
        return json.loads(canonical(asdict(self)))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> RunConfig:
        """The configuration of a config.json.

        Raises:
            UserError: A field is unknown to this version.
        """
        if not isinstance(values, dict):
            raise UserError(f"a configuration is {shown(values)}, expected its fields by name")
        _check_fields(values)
        return cls(**values)

    def replace(self, **changes: Any) -> RunConfig:
        """A copy with some fields changed, validated anew."""
        _check_fields(changes)
        return replace(self, **changes)

    def run_id(self, data_fingerprint: str) -> str:
        """The key of a run: equal for equal settings on equal data, 16 hexadecimal digits."""
        return digest(self._keyed() | {"data_fingerprint": data_fingerprint})

    def group_id(self, data_fingerprint: str) -> str:
        """The key shared by runs that differ in the seed alone."""
        settings = {name: value for name, value in self._keyed().items() if name != "seed"}
        return digest(settings | {"data_fingerprint": data_fingerprint})

    def _keyed(self) -> dict[str, Any]:
        unused = {item.name: item.default for item in fields(self) if item.name in ADDED_LATER}
        return {name: value for name, value in self.as_dict().items() if value != unused.get(name, ...)}


HINTS = get_type_hints(RunConfig)  # the type of each field; to ask takes two milliseconds
# Options are given out as copies: whoever changes one does not change a configuration that was validated.
RunConfig.model_options = property(  # type: ignore[assignment]
    lambda self: deepcopy(vars(self)["model_options"]), lambda self, options: vars(self).update(model_options=options)
)


def _check_fields(names: Iterable[str]) -> None:
    for name in names:
        if name not in HINTS:
            raise unknown_name("config field", name, HINTS)


def canonical(values: Any) -> str:
    """JSON with sorted keys: equal values give equal text.

    Raises:
        UserError: A value is no JSON value.
    """
    try:
        return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        expected = "JSON values only (numbers, text, lists, true, false)"
        raise UserError(f"model_options must hold {expected}: {error}") from None


def _plain_options(options: dict[str, Any]) -> dict[str, Any]:
    """A copy of a network's options in JSON values; what is nested without end or very long is refused."""
    text, level, depth = canonical(options), [options], 0
    while level and depth < DEEPEST:
        inner = [value for each in level for value in (each.values() if isinstance(each, dict) else each)]
        level, depth = [value for value in inner if isinstance(value, dict | list | tuple)], depth + 1
    if level or len(text) > LONGEST:
        raise UserError(f"model_options has more than {DEEPEST} levels or {LONGEST:,} characters, as no network's have")
    return json.loads(text, parse_float=lambda number: float(number) + 0.0)  # -0.0 becomes 0.0, which it equals


def digest(values: Any) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of the canonical JSON."""
    return hashlib.sha256(canonical(values).encode()).hexdigest()[:16]


def check_type(name: str, value: Any, hint: Any) -> Any:
    """The value in the type that its annotation asks for; an integer passes for a float, a bool never for a number.

    Args:
        name: What messages call it.
        value: Any value.
        hint: A type, a tuple of whole numbers, or one of these or None: ``int | None``.

    Raises:
        UserError: The value has another type, or is a number or a text too long to be kept.

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
        return value + 0.0  # -0.0 becomes 0.0, which it equals
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
    """Refuse a whole number that no array can hold."""
    if abs(value) > LARGEST:
        raise UserError(f"{name} is {shown(value)}, expected a number of at most 2**63 - 1")


def check_range(name: str, value: float, low: float, high: float, closed: bool) -> None:
    """Refuse a number outside its range.

    Args:
        name: What messages call it.
        value: The number.
        low: The lowest.
        high: The highest, itself allowed; infinity for none.
        closed: Whether the lowest is allowed.

    Raises:
        UserError: It is outside, naming the range.

    >>> check_range("decay", 0.0, 0, 1, False)
    Traceback (most recent call last):
    gendyn_lite.errors.UserError: decay is 0.0, expected a number in (0, 1]
    """
    if isinstance(value, int):
        _check_size(name, value)
    inside = (value >= low if closed else value > low) and value <= high and math.isfinite(value)
    if not inside:  # NaN is outside every range
        bounds = f"{'[' if closed else '('}{low:g}, {'∞)' if math.isinf(high) else f'{high:g}]'}"
        kind = "a whole number" if isinstance(value, int) else "a number"
        raise UserError(f"{name} is {value!r}, expected {kind} in {bounds}")
