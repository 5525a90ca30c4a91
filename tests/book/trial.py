"""A small book with one chapter of everything a page can hold: the toolchain's own fixture, never part of the book."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

ROOT = Path(__file__).resolve().parents[2]
NAME = "01_trial"

TEXT = r"""# A trial chapter

A fraction $q \in [0, 1]$, see {cite:t}`zhang2017`, {eq}`eq-risk` and {fig}`A linked view`.

```{math}
:label: eq-risk
\hat R(f) = \frac1n\sum_{i=1}^n \mathbf 1\{f(x_i)\ne y_i\}
```
"""
EXERCISE = """## Exercises

```{exercise}
:label: ex-trial
Count.
```

```{solution} ex-trial
:class: dropdown
Done.
```
"""
SET_UP = "import altair as alt\nimport pandas as pd\nfrom gendyn_lite import charts\ncharts.enable()"
PARAMETERS = (
    'profile: str = "smoke"  # size\npoints: int = 20  # points a line\nscale: float | None = None  # factor of y'
)
TABLE = """steps = [(k, q, x) for k in range(3) for q in range(5) for x in range(points)]
rows = [("abc"[k], q / 4, x, x ** (1 + k + q) / points) for k, q, x in steps]
table = pd.DataFrame(rows, columns=["line", "q", "x", "y"])
table.groupby("line")["y"].mean().round(3).to_frame()"""
SLIDER = """from gendyn_lite.charts.parts import slider
q = slider("level", table["q"], "label corruption q", value=0.5)
mark = alt.param(name="mark", value="a", bind=alt.binding_select(options=["a", "b", "c"], name="emphasis"))
lines = alt.Chart(table).mark_line(point=True).encode(
    x="x:Q", y="y:Q", color="line:N", strokeDash="line:N",
    opacity=alt.condition("datum.line == mark", alt.value(1), alt.value(0.5)),
).transform_filter("datum.q === level").add_params(q, mark)
charts.show(lines.properties(title="Three lines", description="y against x for three lines."), caption="run `abc`")"""
LINKED = """brush = alt.selection_interval(encodings=["x"])
left = alt.Chart(table).mark_point().encode(x="x:Q", y="y:Q", color="line:N", shape="line:N").add_params(brush)
right = alt.Chart(table).mark_bar().encode(x="mean(y):Q", y="line:N").transform_filter(brush)
(left | right).properties(title="A linked view", description="Points, and the mean of those brushed.")"""
LIVE = 'import ipywidgets\nipywidgets.interact(lambda q: print("q is", q), q=(0.0, 1.0));'


PYTHON = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}


def cell(source: str, *tags: str) -> Any:
    """A code cell with tags."""
    return new_code_cell(source, metadata={"tags": list(tags)} if tags else {})


def notebook(*more: Any) -> Any:
    """The chapter, unexecuted, with more cells at its end."""
    cells = [
        new_markdown_cell(TEXT),
        cell(SET_UP),
        cell(PARAMETERS, "parameters"),
        cell(TABLE),
        cell(SLIDER),
        cell(LINKED),
        cell(LIVE, "live-only", "nbval-ignore-output"),
        new_markdown_cell(EXERCISE),
        *more,
    ]
    return new_notebook(cells=cells, metadata=PYTHON)


def small(*sources: Any) -> Any:
    """A notebook of a parameters cell and some code cells, quick to run."""
    cells = [source if not isinstance(source, str) else cell(source) for source in sources]
    return new_notebook(cells=[cell(PARAMETERS, "parameters"), *cells], metadata=PYTHON)


def chapter_of(folder: Path, *sources: Any) -> Path:
    """Write such a notebook into a folder."""
    path = folder / "chapter.ipynb"
    nbformat.write(small(*sources), path)
    return path


def write(folder: Path, chapter: Any) -> Path:
    """Write a book with that one chapter; gives its folder ``book``, beside which is a _config.yml."""
    book = folder / "book"
    (book / "chapters").mkdir(parents=True)
    nbformat.write(chapter, book / "chapters" / f"{NAME}.ipynb")
    (book / "_toc.yml").write_text(
        f"format: jb-book\nroot: intro\nparts:\n- numbered: 1\n  chapters:\n  - file: chapters/{NAME}\n"
    )
    (book / "intro.md").write_text("# A trial\n\n```{bibliography}\n```\n")
    shutil.copyfile(ROOT / "book" / "references.bib", book / "references.bib")
    config = (ROOT / "_config.yml").read_text(encoding="utf-8")
    (folder / "_config.yml").write_text(config.replace("book/_ext", str(ROOT / "book" / "_ext")), encoding="utf-8")
    return book
