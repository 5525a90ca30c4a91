"""A small network that the reader trains in the page itself, as a figure: no kernel, no request, one click.

It is written in plain JavaScript. A library such as jax-js would do it too, and was tried; these few hundred lines have
nothing to install, to pin or to license, weigh a tenth of it, and run wherever JavaScript does, WebAssembly or not.
What they compute is tested against PyTorch and this library's measures on the same weights (tests/charts/test_toy.py).
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import numpy as np
from IPython.display import HTML, display

from gendyn_lite.charts.figure import coded, slug
from gendyn_lite.charts.html import plain_table
from gendyn_lite.errors import UserError

LEVELS = 16  # grey levels above black of the embedded digits
ASKS = ("interval", "stiffness")
MISSING = "JavaScript is off: no network can be trained in this page. This is what the library recorded instead."
TRIED = """<div class="gendyn-table" tabindex="0" role="region" aria-label="What you tried" hidden><table>
<caption>What you tried</caption><thead><tr>{heads}</tr></thead><tbody class="gendyn-toy-tried"></tbody>
</table></div>"""
ENDED = ("epochs to fit", "seconds", "accuracy", "on unseen digits")


def letters(x: np.ndarray) -> str:
    """Images of 17 grey levels as text, a letter a pixel: small, and smaller when compressed.

    Args:
        x: 8-bit images with the levels round(k · 255/16), uint8 of any shape.

    Raises:
        UserError: There are other levels.

    >>> letters(np.array([0, 128, 255], dtype=np.uint8))
    'aiq'
    """
    level = np.rint(x.astype(float) * LEVELS / 255).astype(int)
    if not np.array_equal(np.floor(level * 255 / LEVELS + 0.5), x):
        raise UserError("the images have other grey levels than the embedded digits, expected 17 from 0 to 255")
    return "".join(chr(ord("a") + one) for one in level.ravel())


def show(
    given: Mapping[str, Any],
    *,
    title: str,
    caption: str,
    controls: Mapping[str, tuple[str, Sequence[tuple[str, str]]]],
    recorded: tuple[Sequence[str], Sequence[Sequence[object]], str],
    ask: Sequence[str] = ASKS,
) -> None:
    """Display a network to be trained in the page.

    Args:
        given: Data and settings, of `gendyn_lite.chapters.toy.given`.
        title: Title of the figure.
        caption: What it is, and what it is not, in a sentence.
        controls: What can be set, by its key (``"labels"``, ``"rate"``, ``"width"``, ``"seed"``): the words of a
            slider, and value and words of each stop. It opens at the value that the settings have.
        recorded: Heads, rows and caption of the table of a recorded run, for readers without JavaScript.
        ask: What the trained network is asked about a digit that is chosen, of `ASKS`. Without any, a table collects
            what was tried.
    """
    name, (heads, rows, about) = f"toy-{slug(title)}", recorded
    stops = {key: one[1] for key, one in controls.items()}
    values = {**given, "options": stops, "ask": list(ask)}
    classes = "".join(f"<option>{number}</option>" for number in range(given["classes"]))
    labels = [label for label, _ in controls.values()]
    tried = "".join(f'<th scope="col">{html.escape(head)}</th>' for head in (*labels, *ENDED))
    below = _text("toy_ask.html").format(classes=classes) if ask else TRIED.format(heads=tried)
    for one in set(ASKS) - set(ask):
        below = below.replace(f'class="gendyn-toy-{one}"', f'class="gendyn-toy-{one}" hidden')
    figure = _text("toy.html").format(
        id=name,
        title=html.escape(title),
        caption=coded(caption),
        controls="".join(
            f'<label>{html.escape(label)} <input type="range" min="0" max="{len(stops[key]) - 1}" data-key="{key}">'
            '<span class="gendyn-toy-value"></span></label>'
            for key, label in zip(controls, labels, strict=True)
        ),
        below=below,
        missing=MISSING,
        table=plain_table(heads, rows, caption=about).data,
        data=json.dumps(values, sort_keys=True, separators=(",", ":")).replace("<", "\\u003c"),
        live=f'<style data-gendyn="live">{style()}</style>\n<script data-gendyn="live">{script()}</script>',
    )
    display(HTML(figure))


def script() -> str:
    """The script of a page that has such a network."""
    return _text("toy_engine.js") + _text("toy.js")


def style() -> str:
    """Its style sheet."""
    return _text("toy.css")


def _text(name: str) -> str:
    """A file beside this one."""
    return files("gendyn_lite.charts").joinpath(name).read_text(encoding="utf-8")
