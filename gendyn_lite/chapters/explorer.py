"""What every explorer does: draw anew when a control changes, and say in a line what went wrong."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ipywidgets as widgets
from IPython.display import clear_output

from gendyn_lite import charts
from gendyn_lite.errors import Failed, UserError


def panel(
    controls: Sequence[widgets.Widget], below: Sequence[widgets.Widget], update: Callable[[], None]
) -> widgets.VBox:
    """Controls above what they change; it is drawn at once, and anew when one of them changes.

    Args:
        controls: Each with a value.
        below: For instance a line of status, and an output.
        update: Draws what is below.
    """
    for control in controls:
        control.observe(lambda _: update(), names="value")
    update()
    return widgets.VBox([*controls, *below])


def draw(output: widgets.Output, chart: Any, caption: str) -> None:
    """Show a chart in place of what an output shows.

    Args:
        output: Where.
        chart: Of `gendyn_lite.charts`.
        caption: Below it: where its numbers come from.
    """
    with output:
        clear_output(wait=True)
        charts.show(chart, caption=caption)


def say(status: widgets.HTML, text: str) -> None:
    """Show a line as it is: names of data and files may hold what HTML would read as its own."""
    status.value = html.escape(text)


@contextmanager
def told(status: widgets.HTML) -> Iterator[None]:
    """What went wrong within becomes the line of status."""
    try:
        yield
    except (UserError, Failed) as error:
        say(status, str(error))


@contextmanager
def busy(button: widgets.Button, status: widgets.HTML) -> Iterator[None]:
    """As `told`, for what takes a while: the button is dead and the status says so until it is done."""
    button.disabled = True
    say(status, "Training …")
    try:
        with told(status):
            yield
    finally:
        button.disabled = False
