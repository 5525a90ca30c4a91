"""Code that pages run in a live kernel: training a small network, explorer panels, and checkers of exercises."""

from __future__ import annotations

import copy
import html
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec

import ipywidgets as widgets
import torch
from IPython.display import clear_output
from torch import Tensor, nn

from gendyn_lite import charts, data
from gendyn_lite.chapters import runner
from gendyn_lite.chapters.limits import limited
from gendyn_lite.config import RunConfig
from gendyn_lite.errors import Failed, UserError

P = ParamSpec("P")
MOST_SAID = 500  # most characters of a message about an answer
Shown = tuple[str, Any, str]  # what an explorer shows: its status line, a chart, and the caption below the chart


def panel(
    controls: Sequence[widgets.Widget], show: Callable[[], Shown], button: widgets.Button | None = None
) -> tuple[widgets.VBox, widgets.HTML]:
    """Put controls above a status line and a chart; errors are shown in the status line.

    Args:
        controls: Widgets with a value. Without a button the chart is drawn at once and whenever a value changes.
        show: Computes what the controls ask for. With a button it may take a while.
        button: Draws the chart when pressed, and is disabled until the chart is there.

    Returns:
        The widget to display, and its status line.
    """
    status, output = widgets.HTML(), widgets.Output()

    def say(text: str) -> None:
        status.value = html.escape(text)  # names of data sets and files may contain HTML

    def update() -> None:
        try:
            text, chart, caption = show()
            say(text)
            with output:
                clear_output(wait=True)
                charts.show(chart, caption=caption)
        except (UserError, Failed) as error:
            say(str(error))

    def press(pressed: widgets.Button) -> None:
        pressed.disabled = True
        say("Training …")
        try:
            update()
        finally:
            pressed.disabled = False

    if button is None:
        for control in controls:
            control.observe(lambda _: update(), names="value")
        update()
        return widgets.VBox([*controls, status, output]), status
    say(f"Choose, then press {button.description}.")
    button.on_click(press)
    return widgets.VBox([*controls, button, status, output]), status


class Trained(NamedTuple):
    """A network that a page has trained.

    Attributes:
        model: The network.
        x: Its training inputs, preprocessed [n, *in_shape].
        y: The labels it was trained with [n].
    """

    model: nn.Module
    x: Tensor
    y: Tensor


def trained(config: RunConfig) -> Trained:
    """Train a small network while a page is being executed.

    Args:
        config: The settings; the run is not recorded.

    Returns:
        The network in eval mode, its inputs [n, *in_shape] and labels [n].

    Raises:
        UserError: The data set or the network is unknown.

    >>> small = {"model": "mlp", "model_options": {"widths": [4]}, "train_size": 20, "batch_size": 10, "epochs": 1}
    >>> trained(RunConfig(experiment="demo", **small)).x.shape
    torch.Size([20, 1, 8, 8])
    """
    loaded, _ = data.load_for_run(config)
    return Trained(runner.trained(config, loaded), *runner.inputs(config, loaded))


# Folders of code that no learner wrote: this package and the installed ones.
NOT_LEARNERS = (str(Path(__file__).parents[1]), str(Path(torch.__file__).parents[1]))
_right: dict[str, bool] = {}  # exercises tried in this kernel: name → whether the last answer was right


class NotYetError(Exception):
    """An answer is wrong; the message tells the learner the first thing that is wrong with it."""


def exercise(name: str) -> Callable[[Callable[P, None]], Callable[P, bool]]:
    """Turn a function that raises `NotYetError` for a wrong answer into a checker of an exercise.

    The checker prints one line and returns whether the answer is right. Any other exception from the learner's code,
    and code that runs or prints without end, is reported as that code failing. An exception from the checker itself is
    reported as an answer that it cannot use.

    Args:
        name: Name of the exercise.

    >>> @exercise("two")
    ... def check_two(answer):
    ...     expect(answer() == 2, f"you say {answer()}, expected 2")
    >>> check_two(lambda: 3)
    Not yet (two): you say 3, expected 2
    False
    >>> check_two(lambda: 2)
    Right (two).
    True
    """

    def checker(check: Callable[P, None]) -> Callable[P, bool]:
        @wraps(check)
        def checked(*args: P.args, **options: P.kwargs) -> bool:
            problem = ""
            try:
                answer, *others = args
                with limited():
                    check(_on_copies(answer), *others, **options)  # type: ignore[arg-type]  # as check takes them
            except NotYetError as error:
                problem = _in_a_line(error)
            except NotImplementedError as error:  # torch raises it too, with a message
                problem = f"your code stopped with {_in_a_line(error)}" if str(error) else "your turn"
            except (Exception, SystemExit) as error:
                frames = traceback.extract_tb(error.__traceback__)
                theirs = any(not frame.filename.startswith(NOT_LEARNERS) for frame in frames)
                words = "your code stopped with" if theirs else "the checker cannot use your function or its result:"
                problem = f"{words} {type(error).__name__}: {_in_a_line(error)}".rstrip(": ")
            print(f"Not yet ({name}): {problem}" if problem else f"Right ({name}).")  # noqa: T201 (what it is for)
            _right[name] = not problem
            return not problem

        return checked

    return checker


def _on_copies(answer: Any) -> Callable[..., Any]:
    """Wrap a learner's function so that it gets copies of its arguments, and complain if it changes them."""

    def called(*given: Any) -> Any:
        copies = [each.clone() if isinstance(each, Tensor) else copy.deepcopy(each) for each in given]
        found = answer(*copies)
        pairs = [pair for pair in zip(given, copies, strict=True) if isinstance(pair[0], Tensor)]
        same = all(one.shape == two.shape and _equal(one, two) for one, two in pairs)
        expect(same, "your function changed what it was given; work on a copy: x.clone()")
        return found

    return called


def _equal(before: Tensor, now: Tensor) -> bool:
    same = torch.equal(before.isnan(), now.isnan())
    return same and torch.equal(before.nan_to_num(), now.nan_to_num())


def _in_a_line(error: BaseException) -> str:
    """Return an exception's message as one printable line of at most 500 characters.

    >>> _in_a_line(ValueError("one\\ntwo\\x07"))
    'one two'
    """
    try:
        text = str(error)
    except Exception:
        return "its message cannot be shown"
    text = " ".join("".join(one if one.isprintable() else " " for one in text[: 2 * MOST_SAID]).split())
    return text if len(text) <= MOST_SAID else f"{text[:MOST_SAID]} …"


def summary(count: int) -> None:
    """Print how many exercises of a page are solved, and which of the tried ones are not.

    Args:
        count: Number of exercises on the page.
    """
    missing = [name for name, right in _right.items() if not right]
    told = f" Not yet: {', '.join(missing)}." if missing else ""
    print(f"You have solved {sum(_right.values())} of {count}.{told}")  # noqa: T201 (what it is for)


def expect(condition: bool, problem: str) -> None:
    """Check a condition.

    Args:
        condition: What should hold.
        problem: The message if it does not.

    Raises:
        NotYetError: The condition does not hold.
    """
    if not condition:
        raise NotYetError(problem)


def expect_shape(found: object, shape: tuple[int, ...], words: str = "", *, what: str = "the result") -> None:
    """Check the shape of a tensor (or number).

    Args:
        found: What the learner's code returned.
        shape: The expected shape.
        words: The expected shape in words, for the message.
        what: What has this shape, for the message.

    Raises:
        NotYetError: The shape is another.
    """
    given = tuple(torch.as_tensor(found).shape)
    expect(given == shape, f"{what} has shape {given}, expected {words or shape}")


def expect_close(
    found: object, expected: object, problem: str, slips: Mapping[str, Any] | None = None, *, tolerance: float = 1e-8
) -> None:
    """Check a value.

    Args:
        found: What the learner's code returned.
        expected: What it should have returned.
        problem: The message for any other value; a known mistake that explains the value is added to it.
        slips: Known mistakes, as for `slip`.
        tolerance: As for `close`.

    Raises:
        NotYetError: The value is another.
    """
    expect(close(found, expected, tolerance=tolerance), problem + slip(found, slips or {}, tolerance=tolerance))


def close(found: object, expected: object, *, tolerance: float = 1e-8) -> bool:
    """Whether two tensors (or numbers) have the same shape and are equal up to rounding.

    Args:
        found: What the learner's code returned.
        expected: What it should have returned.
        tolerance: Relative and absolute tolerance.

    >>> close(1.0, 1 + 1e-12), close([1.0], 1.0)
    (True, False)
    """
    value, wanted = (torch.as_tensor(each, dtype=torch.float64) for each in (found, expected))
    return value.shape == wanted.shape and torch.allclose(value, wanted, rtol=tolerance, atol=tolerance)


def slip(found: object, slips: Mapping[str, Any], *, tolerance: float = 1e-8) -> str:
    """Recognize a known mistake (a slip) by the value it gives.

    Args:
        found: What the learner's code returned.
        slips: Explanation of each mistake → the value that it gives.
        tolerance: As for `close`.

    Returns:
        ``"; "`` and the explanation of the first mistake that gives this value, to be appended to a message; else "".

    >>> slip(-2.0, {"its sign is wrong": -2.0})
    '; its sign is wrong'
    """
    return next((f"; {words}" for words, wrong in slips.items() if close(found, wrong, tolerance=tolerance)), "")


def random(*shape: int, seed: int = 0) -> Tensor:
    """Draw standard normal numbers in float64 from a seed.

    Args:
        *shape: Shape of the result.
        seed: Seed of the draws.

    >>> random(2, 3).shape
    torch.Size([2, 3])
    """
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
