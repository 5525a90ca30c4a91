"""A small network that the reader trains in the page itself, as a figure: no kernel, no request, one click.

It is written in plain JavaScript. A library such as jax-js would do it too, and was tried; these five hundred lines
have nothing to install, to pin or to license, weigh a tenth of it, and run wherever JavaScript does.
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

SCRIPTS = ("toy_engine.js", "toy_plane.js", "toy.js")
LEVELS = 16  # grey levels above black of the embedded digits
ASKS = ("path", "interval", "stiffness")  # what is asked: a file each
SHOWN = 11  # digits of each kind to choose from
MOST = 6  # digits shown that a step helps most, or harms most
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
    ask: Sequence[str],
) -> None:
    """Display a network to be trained in the page.

    Args:
        given: Data and settings, of `gendyn_lite.chapters.toy.given`.
        title: Title of the figure.
        caption: What it is, and what it is not, in a sentence.
        controls: What can be set, by its key (``"labels"``, ``"rate"``, ``"width"``, ``"seed"``): the words of a
            menu, and value and words of each choice. It opens at the value that the settings have.
        recorded: Heads, rows and caption of the table of a recorded run, for readers without JavaScript.
        ask: What the network is asked, of `ASKS`: ``"path"`` at a point of the plane, the others about a digit that is
            chosen. Without any, a table collects what was tried.
    """
    name, (heads, rows, about) = f"toy-{slug(title)}", recorded
    settings = given["settings"]
    menus = [_menu(key, label, choices, settings[key]) for key, (label, choices) in controls.items()]
    menus += [_hidden(key, value) for key, value in settings.items() if key not in controls]
    words = {"id": name, "count": len(given["train"]["classes"]), "things": given["things"], "legend": LEGEND}
    tried = "".join(
        f'<th scope="col">{html.escape(head)}</th>' for head in (*(one[0] for one in controls.values()), *ENDED)
    )
    figure = _text("toy.html").format(
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
    """A setting to choose."""
    options = (
        f'<option value="{value}"{" selected" * (value == opens)}>{html.escape(words)}</option>'
        for value, words in choices
    )
    return f'<label>{html.escape(label)} <select name="{key}">{"".join(options)}</select></label>'


def _hidden(key: str, value: str) -> str:
    """A setting that stays."""
    return f'<input type="hidden" name="{key}" value="{value}">'


def _asked(given: Mapping[str, Any], ask: Sequence[str], words: Mapping[str, Any]) -> str:
    """The elements below the curves: a plane, or digits and what is said of the one that is chosen."""
    parts = {
        "slots": SLOT * MOST,
        "unseen": len(given["test"]["classes"]),
        "classes": "".join(f"<option>{one}</option>" for one in given["classes"]),
        "sliders": _sliders(**given["plane"]) if "plane" in given else "",
    }
    asked = "".join(_text(f"toy_{one}.html").format(**words, **parts, open=" open" * (one == ask[0])) for one in ask)
    if "path" in ask:
        return asked
    digits = {key: _digits(key, given[key]["classes"]) for key in ("train", "test")}
    return _text("toy_ask.html").format(**digits, asked=asked)


def _digits(key: str, classes: Sequence[int]) -> str:
    """Digits to choose from; the script adds their pixels, their labels and what the network says."""
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
    """The coordinates of the point in a plane."""
    return "".join(
        f'<label>{word} <input type="range" name="{key}" min="{low[i]}" max="{high[i]}" step="0.02" value="{point[i]}">'
        "</label>"
        for i, (key, word) in enumerate((("u", "across"), ("v", "up")))
    )


def script() -> str:
    """The script of a page that has such a network: a function of the files, one after the other."""
    inner = "\n".join(map(_text, SCRIPTS))
    return f'window.gendynToys ||= (function () {{\n"use strict";\n{inner}}})();\nwindow.gendynToys();\n'


def style() -> str:
    """Its style sheet."""
    return _text("toy.css")


def _text(name: str) -> str:
    """A file beside this one."""
    return files("gendyn_lite.charts").joinpath(name).read_text(encoding="utf-8")
