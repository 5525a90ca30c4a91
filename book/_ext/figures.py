"""Sphinx extension: figures are numbered, can be referred to, and are pictures with tables where JavaScript is off.

A figure is a chart that a page carries as ``<figure class="gendyn-chart">``. It is called Figure 4.3 after its chapter
and its place on the page; the first letter of a page without a number stands for it. Text refers to it by its title:
``{fig}`Fitting labels```, or ``{fig}`01_random_labels/Fitting labels``` from another page, where two titles are equal.
"""

from __future__ import annotations

import csv
import hashlib
import html
import io
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging
from sphinx.util.docutils import SphinxRole

from gendyn_lite.charts.figure import read_spec, slug

STYLE = 1  # of pictures: another number, and all are drawn again
WIDTH = 640  # px, of a picture
INK, PAPER = "#1b2530", "#ffffff"  # a picture brings its own ground: it is read on a light and a dark page
FOLDER = "figures"
_FIGURE = re.compile(r'<figure class="gendyn-chart".*?</figure>', re.DOTALL)
_TITLE = re.compile(r'(class="gendyn-title"[^>]*>)(?:<span class="gendyn-number">[^<]*</span>)?\s*([^<]*)')
_ID = re.compile(r'\sid="(chart-[^"]+)"')
# From the folded table to the specification of a drawing; a figure may have two.
_DRAWING = re.compile(
    r'<details class="gendyn-data">.*?<script type="application/json" class="gendyn-spec">(.*?)</script>', re.DOTALL
)
_PICTURE = re.compile(rf'(?:src|href)="[^"]*{FOLDER}/([^"/]+)"')
_MISSING = (
    '<noscript><p class="gendyn-noscript">JavaScript is off: charts are still pictures with their data as files, and '
    "equations are written in TeX; search, copy buttons and the switch to dark are missing.</p></noscript>\n"
)
_log = logging.getLogger(__name__)


class Named(NamedTuple):
    """A figure of a page: the end of its address, and its number on the page."""

    slug: str
    number: int


class figure_reference(nodes.Inline, nodes.TextElement):  # noqa: N801 (as docutils' nodes are named)
    """Stands for a figure's number until all pages are read."""


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the role ``fig`` and the hooks."""
    app.add_node(figure_reference)
    app.add_role("fig", FigureRole())
    app.connect("env-purge-doc", forget)
    app.connect("doctree-read", collect)
    app.connect("env-updated", lambda app, env: sorted(page for page, (_, refers) in _known(env).items() if refers))
    app.connect("doctree-resolved", resolve)
    app.connect("html-page-context", complete, priority=950)
    app.connect("build-finished", tidy)
    return {"parallel_read_safe": False, "parallel_write_safe": True, "env_version": 1}


class FigureRole(SphinxRole):
    """``{fig}`title```: the number of a figure, as a link."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """A node that is replaced when all pages are read."""
        node = figure_reference(self.rawtext, self.text, target=self.text)
        self.set_source_info(node)
        return [node], []


def slugs(text: str) -> list[str]:
    """Those of the figures of a page, in order; a title that comes again gets a number behind it."""
    found: list[str] = []
    for figure in _FIGURE.findall(text):
        title = _TITLE.search(figure)
        name = slug(html.unescape(title[2]) if title else "")
        again = sum(one == name or re.fullmatch(rf"{re.escape(name)}-\d+", one) is not None for one in found)
        found.append(f"{name}-{again + 1}" if again else name)
    return found


def _known(env: BuildEnvironment) -> dict[str, tuple[list[str], bool]]:
    """Of each page the slugs of its figures, and whether it refers to any."""
    if not hasattr(env, "gendyn_figures"):
        env.gendyn_figures = {}  # type: ignore[attr-defined]
    return env.gendyn_figures  # type: ignore[attr-defined]


def forget(app: Sphinx, env: BuildEnvironment, page: str) -> None:
    """Forget the figures of a page that is read again."""
    _known(env).pop(page, None)


def collect(app: Sphinx, doctree: nodes.document) -> None:
    """Note the figures of a page that was read."""
    text = "".join(node.astext() for node in doctree.findall(nodes.raw))
    refers = next(iter(doctree.findall(figure_reference)), None) is not None
    _known(app.env)[app.env.docname] = (slugs(text), refers)


def label(env: BuildEnvironment, page: str, number: int) -> str:
    """What a figure is called: the chapter's number, or the first letter of a page without one, and its own number."""
    chapter = env.toc_secnumbers.get(page, {}).get("")
    letter = next((sign for sign in Path(page).stem if sign.isalpha()), "X").upper()
    return f"Figure {chapter[0] if chapter else letter}.{number}"


def find(env: BuildEnvironment, page: str, target: str) -> tuple[str, Named] | None:
    """The page and the figure that are meant by a title (or ``page/title``) on a page; its own figures come first."""
    where, _, title = target.rpartition("/")
    for other in [page, *sorted(set(_known(env)) - {page})]:
        names = _known(env).get(other, ([], False))[0]
        if (not where or Path(other).stem == where) and slug(title) in names:
            return other, Named(slug(title), names.index(slug(title)) + 1)
    return None


def resolve(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Put numbers in place of references."""
    for node in list(doctree.findall(figure_reference)):
        found = find(app.env, page, node["target"])
        if found is None:
            _log.warning("unknown figure: %s", node["target"], location=node)
            node.replace_self(nodes.Text(node["target"]))
            continue
        other, figure = found
        address = "" if other == page else app.builder.get_relative_uri(page, other)
        text = label(app.env, other, figure.number)
        node.replace_self(nodes.reference("", text, internal=True, refuri=f"{address}#chart-{figure.slug}"))


def complete(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Number the figures of a page that is written, and add what is shown without JavaScript."""
    body = context.get("body")
    if not body:
        return
    names = iter(slugs(body))
    root = context["pathto"]("", 1).rstrip("/") or "." if "pathto" in context else "."
    folder = Path(app.outdir) / FOLDER
    number = 0

    def completed(found: re.Match[str]) -> str:
        nonlocal number
        number += 1
        name, text = next(names), label(app.env, page, number)
        link = f'<span class="gendyn-number"><a href="#chart-{name}">{text}</a></span> '
        figure = _TITLE.sub(lambda title: f"{title[1]}{link}{title[2]}", found[0], count=1)
        if own := _ID.search(figure):  # that of its title, once a page
            figure = re.sub(rf'"{own[1]}(-title)?"', rf'"chart-{name}\1"', figure)
        return _DRAWING.sub(lambda drawing: f"{still(drawing[1], folder, root)}{drawing[0]}", figure)

    context["body"] = _MISSING + _FIGURE.sub(completed, body)


def still(text: str, folder: Path, root: str) -> str:
    """Picture and tables of a specification as HTML for readers without JavaScript; their files are made once."""
    import vl_convert

    key = hashlib.sha256(f"{vl_convert.__version__} {STYLE} {text}".encode()).hexdigest()[:16]
    spec = read_spec(text)
    picture = folder / f"{key}.svg"
    folder.mkdir(exist_ok=True)
    if not picture.exists():
        _write(picture, drawn(spec))
    files = []
    for number, rows in enumerate(tables(spec), start=1):
        path = folder / f"{key}-{number}.csv"
        if not path.exists():
            _write(path, written(rows))
        files.append(f'<a href="{root}/{FOLDER}/{path.name}" download>{len(rows):,} row{"s" * (len(rows) != 1)}</a>')
    size = re.search(r'width="([\d.]+)" height="([\d.]+)"', picture.read_text(encoding="utf-8")[:1000])
    wide, high = (round(float(one)) for one in size.groups()) if size else (WIDTH, WIDTH)
    image = f'<img src="{root}/{FOLDER}/{picture.name}" width="{wide}" height="{high}" alt="" loading="lazy">'
    return f"<noscript>{image}<p>Data as CSV: {', '.join(files) or 'none'}</p></noscript>\n"


def drawn(spec: dict[str, Any]) -> str:
    """The chart of a specification as SVG, in the state in which its controls begin."""
    import altair
    import vl_convert

    spec = json.loads(json.dumps(spec).replace('"currentColor"', f'"{INK}"'))
    parts = spec.get("hconcat") or spec.get("concat") or []
    for part in parts:
        part.setdefault("width", max(140, WIDTH // min(len(parts), spec.get("columns", len(parts))) - 72))
    if spec.get("width") == "container":
        spec["width"] = WIDTH - 80
    config = spec.setdefault("config", {})
    config["font"] = "Arial, Helvetica, 'Liberation Sans', sans-serif"  # whose widths are known where it is drawn
    config["legend"] = {**config.get("legend", {}), "titleOrient": "top"}
    spec["background"] = PAPER
    version = "v" + ".".join(altair.VEGALITE_VERSION.split(".")[:2])
    return vl_convert.vegalite_to_svg(json.dumps(spec), vl_version=version, allowed_base_urls=[])


def tables(spec: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """The data sets that a specification carries."""
    values = spec.get("data", {}).get("values")
    return [rows for rows in spec.get("datasets", {"": values}).values() if rows and isinstance(rows[0], dict)]


def written(rows: list[dict[str, Any]]) -> str:
    """A data set as CSV; pictures within it are left out.

    >>> written([{"a": 1, "picture": "data:image/png;base64,AA"}, {"a": None, "b": 2}])
    'a,b\\r\\n1,\\r\\n,2\\r\\n'
    """
    names = dict.fromkeys(name for row in rows for name in row)
    kept = [name for name in names if not any(str(row.get(name, "")).startswith("data:") for row in rows)]
    text = io.StringIO()
    writer = csv.DictWriter(text, kept, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _write(path: Path, text: str) -> None:
    """Write aside, then rename."""
    aside = path.with_suffix(".partial")
    aside.write_text(text, encoding="utf-8", newline="")
    aside.replace(path)


def tidy(app: Sphinx, exception: Exception | None) -> None:
    """Remove the pictures and tables that no page shows any more."""
    folder = Path(app.outdir) / FOLDER
    if exception is not None or not folder.is_dir():
        return
    pages = (path.read_text(encoding="utf-8") for path in Path(app.outdir).rglob("*.html") if path.name != "index.html")
    shown = {name for text in pages for name in _PICTURE.findall(text)}
    for path in folder.iterdir():
        if path.name not in shown:
            path.unlink()
