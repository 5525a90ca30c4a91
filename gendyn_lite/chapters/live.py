"""What a page asks of a live kernel: a small network, explorers, drawn anew on change, and checkers of exercises."""

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
MOST_SAID = 500  # characters of what is wrong with an answer
Shown = tuple[str, Any, str]  # of an explorer: what its line of status says, a chart, and what stands below that


def panel(
    controls: Sequence[widgets.Widget], show: Callable[[], Shown], button: widgets.Button | None = None
) -> tuple[widgets.VBox, widgets.HTML]:
    """Controls above a line of status and a chart; a mistake is told in that line.

    Args:
        controls: Each with a value; without a button the chart is drawn at once, and anew when one of them changes.
        show: What the controls choose. It may take a while where there is a button.
        button: Draws the chart; it is dead until that is done.

    Returns:
        What to display, and its line of status.
    """
    status, output = widgets.HTML(), widgets.Output()

    def say(text: str) -> None:
        status.value = html.escape(text)  # names of data and files may hold what HTML would read as its own

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
        x: Its training inputs, as it takes them.
        y: The labels it was trained with.
    """

    model: nn.Module
    x: Tensor
    y: Tensor


def trained(config: RunConfig) -> Trained:
    """Train a small network while a page is made.

    Args:
        config: Its run, which is not recorded.

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


# Where code is that no learner wrote: this package, and installed ones.
NOT_LEARNERS = (str(Path(__file__).parents[1]), str(Path(torch.__file__).parents[1]))
_right: dict[str, bool] = {}  # of the exercises that were tried in this kernel, by name


class NotYetError(Exception):
    """The first thing that is wrong with an answer, in words for the learner."""


def exercise(name: str) -> Callable[[Callable[P, None]], Callable[P, bool]]:
    """Make a checker of a function that raises `NotYetError` at the first thing that is wrong with an answer.

    The checker prints one line, what is right or what is wrong, and returns whether the answer is right. Any other
    exception from the learner's code is that code failing, as is one that runs or prints without end; one from nowhere
    else than the checker is an answer that it cannot use.

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
            except NotImplementedError as error:  # torch raises it too, and says of what
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
    """A learner's function that is given copies: what it does to them changes nothing that it is compared with."""

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
    """What an exception says, in one line of at most 500 characters that can be printed.

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
    """Print how many exercises of a page are solved, and which of those that were tried are not.

    Args:
        count: How many the page has.
    """
    missing = [name for name, right in _right.items() if not right]
    told = f" Not yet: {', '.join(missing)}." if missing else ""
    print(f"You have solved {sum(_right.values())} of {count}.{told}")  # noqa: T201 (what it is for)


def expect(condition: bool, problem: str) -> None:
    """Expect a condition.

    Args:
        condition: What should hold.
        problem: What is told where it does not.

    Raises:
        NotYetError: It does not hold.
    """
    if not condition:
        raise NotYetError(problem)


def expect_shape(found: object, shape: tuple[int, ...], words: str = "", *, what: str = "the result") -> None:
    """Expect a tensor (or number) of a shape.

    Args:
        found: What the learner's code returned.
        shape: As it should be.
        words: The shape in words, where these say more.
        what: Whose shape it is.

    Raises:
        NotYetError: It has another shape.
    """
    given = tuple(torch.as_tensor(found).shape)
    expect(given == shape, f"{what} has shape {given}, expected {words or shape}")


def expect_close(
    found: object, expected: object, problem: str, slips: Mapping[str, Any] | None = None, *, tolerance: float = 1e-8
) -> None:
    """Expect a value.

    Args:
        found: What the learner's code returned.
        expected: What it should have.
        problem: What is told of another value, before the slip that gives it.
        slips: As for `slip`.
        tolerance: As for `close`.

    Raises:
        NotYetError: It is another value.
    """
    expect(close(found, expected, tolerance=tolerance), problem + slip(found, slips or {}, tolerance=tolerance))


def close(found: object, expected: object, *, tolerance: float = 1e-8) -> bool:
    """Whether two tensors (or numbers) are equal but for rounding; other shapes are not.

    Args:
        found: What the learner's code returned.
        expected: What it should have.
        tolerance: Relative and absolute.

    >>> close(1.0, 1 + 1e-12), close([1.0], 1.0)
    (True, False)
    """
    value, wanted = (torch.as_tensor(each, dtype=torch.float64) for each in (found, expected))
    return value.shape == wanted.shape and torch.allclose(value, wanted, rtol=tolerance, atol=tolerance)


def slip(found: object, slips: Mapping[str, Any], *, tolerance: float = 1e-8) -> str:
    """What is said of the slip that gives this value, to be added to a problem; empty where none does.

    Args:
        found: What the learner's code returned.
        slips: What each slip gives, by the words that explain it.
        tolerance: As for `close`.

    >>> slip(-2.0, {"its sign is wrong": -2.0})
    '; its sign is wrong'
    """
    return next((f"; {words}" for words, wrong in slips.items() if close(found, wrong, tolerance=tolerance)), "")


def random(*shape: int, seed: int = 0) -> Tensor:
    """Normal numbers in float64, the same for one seed.

    Args:
        *shape: Of the result.
        seed: Of the draws.

    >>> random(2, 3).shape
    torch.Size([2, 3])
    """
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
