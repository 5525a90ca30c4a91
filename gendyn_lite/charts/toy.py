"""A small network that the reader trains in the page with one click, without a kernel or a network connection.

It is written in plain JavaScript. A library such as jax-js was tried and works too, but these five hundred lines need
no installation, version pin or licence, are a tenth of its size, and run wherever JavaScript does. Tests compare their
results with PyTorch and with this library's measures on the same weights (tests/charts/test_toy.py).
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from IPython.display import HTML, display

from gendyn_lite.charts.figure import asset, coded, slug
from gendyn_lite.charts.html import plain_table
from gendyn_lite.errors import UserError

SCRIPTS = ("toy_engine.js", "toy_plane.js", "toy.js")
LEVELS = 16  # grey levels above black of the embedded digits
ASKS = ("path", "interval", "stiffness")  # measures that can be asked, with an HTML file each
SHOWN = 11  # digits of each kind to choose from
MOST = 6  # number of digits shown that a step helps most, or harms most
MISSING = "JavaScript is off: no network can be trained in this page. This is what the library recorded instead."
TRIED = """<div class="gendyn-table" tabindex="0" role="region" aria-label="What you tried" hidden><table>
<caption>What you tried</caption><thead><tr>{heads}</tr></thead><tbody class="gendyn-toy-tried"></tbody>
</table></div>"""
ENDED = ("epochs to fit", "seconds", "accuracy", "on unseen digits")
LEGEND = "".join(
    f'<span><svg viewBox="0 0 1 1" preserveAspectRatio="none"><polyline data-set="{key}" points="0,.7 1,.7"/></svg>'
    f"{word}</span>"
    for key, word in (("train", "training"), ("test", "unseen"))
)
SLOT = '<span><canvas width="8" height="8" role="img" aria-label=""></canvas><span aria-hidden="true"></span></span>'


def letters(x: np.ndarray) -> str:
    """Encode images with 17 grey levels as text, one letter for each pixel.

    Args:
        x: Images with the levels round(k · 255/16), uint8 of any shape.

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
    ask: Sequence[str],
) -> None:
    """Display a network to be trained in the page.

    Args:
        given: Data and settings, as from `gendyn_lite.chapters.toy.given`.
        title: Title of the figure.
        caption: A sentence on what it is, and what it is not.
        controls: Key of a setting (``"labels"``, ``"rate"``, ``"width"``, ``"seed"``) → the words of its menu, and the
            value and words of each choice. Menus open at the value in the settings.
        recorded: Heads, rows and caption of a table of recorded runs, for readers without JavaScript.
        ask: Measures that can be asked of the network, of `ASKS`: ``"path"`` at a point of the plane, the others for a
            chosen digit. If empty, a table collects the settings that were tried.
    """
    name, (heads, rows, about) = f"toy-{slug(title)}", recorded
    settings = given["settings"]
    menus = [_menu(key, label, choices, settings[key]) for key, (label, choices) in controls.items()]
    menus += [_hidden(key, value) for key, value in settings.items() if key not in controls]
    words = {"id": name, "count": len(given["train"]["classes"]), "things": given["things"], "legend": LEGEND}
    tried = "".join(
        f'<th scope="col">{html.escape(head)}</th>' for head in (*(one[0] for one in controls.values()), *ENDED)
    )
    figure = asset("toy.html").format(
        **words,
        title=html.escape(title),
        caption=coded(caption),
        controls="".join(menus),
        below=_asked(given, ask, words) if ask else TRIED.format(heads=tried),
        missing=MISSING,
        table=plain_table(heads, rows, caption=about).data,
        data=json.dumps(given, sort_keys=True, separators=(",", ":")).replace("<", "\\u003c"),
        live=f'<style data-gendyn="live">{style()}</style>\n<script data-gendyn="live">{script()}</script>',
    )
    display(HTML(figure))


def _menu(key: str, label: str, choices: Sequence[tuple[str, str]], opens: str) -> str:
    """Write a menu for a setting."""
    options = (
        f'<option value="{value}"{" selected" * (value == opens)}>{html.escape(words)}</option>'
        for value, words in choices
    )
    return f'<label>{html.escape(label)} <select name="{key}">{"".join(options)}</select></label>'


def _hidden(key: str, value: str) -> str:
    """Write a fixed setting."""
    return f'<input type="hidden" name="{key}" value="{value}">'


def _asked(given: Mapping[str, Any], ask: Sequence[str], words: Mapping[str, Any]) -> str:
    """Write the elements below the curves: a plane, or digits to choose from and the measures of the chosen one."""
    parts = {
        "slots": SLOT * MOST,
        "unseen": len(given["test"]["classes"]),
        "classes": "".join(f"<option>{one}</option>" for one in given["classes"]),
        "sliders": _sliders(**given["plane"]) if "plane" in given else "",
    }
    asked = "".join(asset(f"toy_{one}.html").format(**words, **parts, open=" open" * (one == ask[0])) for one in ask)
    if "path" in ask:
        return asked
    digits = {key: _digits(key, given[key]["classes"]) for key in ("train", "test")}
    return asset("toy_ask.html").format(**digits, asked=asked)


def _digits(key: str, classes: Sequence[int]) -> str:
    """Write the digits to choose from; the script adds their pixels, labels and predictions."""
    kind, ends = {"train": ("Training", ", labelled "), "test": ("Unseen", "")}[key]
    heard = [
        f"{kind} digit {i + 1}, a {classes[i]}, labelled " if ends else f"{kind} digit {i + 1}, a "
        for i in range(SHOWN)
    ]
    return "".join(
        f'<label><input type="radio" name="digit" value="{key}-{i}"><canvas width="8" height="8" aria-hidden="true">'
        f'</canvas><span class="gendyn-toy-heard">{words}</span><span></span></label>'
        for i, words in enumerate(heard)
    )


def _sliders(*, low: Sequence[float], high: Sequence[float], point: Sequence[float], **_: Any) -> str:
    """Write sliders for the coordinates of the point in the plane."""
    return "".join(
        f'<label>{word} <input type="range" name="{key}" min="{low[i]}" max="{high[i]}" step="0.02" value="{point[i]}">'
        "</label>"
        for i, (key, word) in enumerate((("u", "across"), ("v", "up")))
    )


def script() -> str:
    """Return the script of a page with such a network: all files, wrapped in one function."""
    inner = "\n".join(map(asset, SCRIPTS))
    return f'window.gendynToys ||= (function () {{\n"use strict";\n{inner}}})();\nwindow.gendynToys();\n'


def style() -> str:
    """Return the style sheet."""
    return asset("toy.css")
