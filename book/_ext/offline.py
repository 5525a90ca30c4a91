"""Sphinx extension: pages without a request to another host or a control that is dead in them, fit for a screen reader.

Mathematics and charts come from files beside the pages: MathJax out of a Python package (checked by hash), Vega out of
vl-convert's bundle. Both are put together at build time into ``vendor/`` beside the output, and none is committed.
Widgets' JavaScript is not shipped at all: cells that need a kernel are replaced by a note (`gendyn_lite.notebooks`).
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
import shutil
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

MATHJAX_PACKAGE = "sphinx-mathjax-offline"
# Not tex-chtml.js: two fifths of it are a menu, for which every formula of a page would be a stop of the Tab key.
MATHJAX_LOADED = ("core", "input/tex", "output/chtml", "a11y/assistive-mml")
MATHJAX_PARTS = (
    "startup.js",
    *(f"{name}.js" for name in MATHJAX_LOADED),
    "input/tex/extensions",
    "output/chtml/fonts",
)
MATHJAX_SHA256 = "7eeb9d4e4fcd24db5c79a002bb72d3f6352a222567997ec27eb72ec7dbe53ca5"
CHART_MARK = '<figure class="gendyn-chart"'
CHART_FILES = ("gendyn-vega.js", "gendyn-charts.js", "gendyn-charts.css")
TOY_MARK, TOY_FILES = '<figure class="gendyn-toy"', ("gendyn-toy.js", "gendyn-toy.css")
BOOK_STYLE = "gendyn-book.css"
OWN = {BOOK_STYLE: "book.css", "gendyn-book.js": "book.js"}
STAMP = "made-of"  # beside the vendored files: a hash of what the pages there are were made with
_LIVE = re.compile(r'<(style|script) data-gendyn="live">.*?</\1>\s*', re.DOTALL)
_THEBE = re.compile(r'<script type="text/x-thebe-config">.*?</script>\s*', re.DOTALL)
_KERNEL_NAME = re.compile(r"<script>kernelName = '[^']*'</script>\s*")
_HOME = ' role="navigation" aria-label="Home"'
# What the theme's pages lack for a screen reader, and 1.5 MB of script for icons that their style sheet has as a font.
_MENDED = (
    (re.compile(r'<script defer src="[^"]*scripts/fontawesome\.js[^"]*"></script>\s*'), ""),
    (
        re.compile(r'(<div class="sidebar-primary-item")(>\s*<a class="navbar-brand)'),
        r'\1 role="navigation" aria-label="Home"\2',
    ),
    (re.compile(r'<header id="pst-header"'), r'\g<0> role="presentation"'),  # empty: the page's header is another
    (re.compile(r'<summary>(?=<span class="toctree-toggle")'), '<summary aria-label="Sections">'),
    (re.compile(r' role="doc-biblioentry"'), ' role="listitem"'),
    (re.compile(r' aria-label="Toggle hidden content"'), ""),
    (re.compile(r'(<button class="btn search-button-field [^>]*) aria-label="Search"'), r"\1"),
    # The theme's script knows whether it is light or dark; without scripts it is light.
    (re.compile(r'(<html [^>]*data-theme=)"auto"'), r'\1"light"'),
    (re.compile(r'<section id="(?:exercise|solution)-content">'), "<section>"),  # one id for all of a page
)
# The theme measures every listing of a page whenever anything in it changes; book.js does so in pauses.
_THEME, _MEASURES = "scripts/pydata-sphinx-theme.js", re.compile(r'\["pre",[^\]]*\](?=\.join\(", "\)\)\.forEach)')
_TABLE = re.compile(r'<div class="gendyn-wide"(?=[ >])(.*?</table>)', re.DOTALL)
_UNUSED = ("scripts/fontawesome.js", "scripts/*.map", "styles/*.map")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the hooks; after every other extension's, so that theirs can be undone."""
    app.connect("builder-inited", vendor, priority=900)
    app.connect("env-get-outdated", outdated)
    app.connect("html-page-context", self_contained, priority=900)
    app.connect("build-finished", mend, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def vendor(app: Sphinx) -> None:
    """Put the scripts that pages load into a folder of static files."""
    if app.builder.format != "html":
        return
    folder = Path(app.outdir).parent / "vendor"
    folder.mkdir(parents=True, exist_ok=True)
    copy_mathjax(folder / "mathjax")
    write_charts(folder)
    for name, source in OWN.items():
        _write(folder / name, Path(__file__).with_name(source).read_text(encoding="utf-8"))
    app.config.html_static_path.append(str(folder))
    app.config.mathjax_path = "mathjax/startup.js"
    app.config.mathjax3_config = {**(app.config.mathjax3_config or {}), "loader": {"load": list(MATHJAX_LOADED)}}


def made_of(app: Sphinx) -> str:
    """One hash of what goes into every page beside its own text: these extensions and the files that pages load."""
    vendored = sorted(path for path in (Path(app.outdir).parent / "vendor").glob("*.*s"))
    sources = sorted(path for path in Path(__file__).parent.iterdir() if path.is_file())
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources + vendored)).hexdigest()


def outdated(app: Sphinx, env: Any, *_: Any) -> list[str]:
    """Every page, where what there is was made with other scripts or styles, which it would go on loading."""
    stamp = Path(app.outdir).parent / STAMP
    same = stamp.is_file() and stamp.read_text(encoding="utf-8") == made_of(app)
    return [] if same else sorted(env.found_docs)


def copy_mathjax(target: Path) -> None:
    """Copy what pages need of MathJax 3, checked by hash.

    Raises:
        ExtensionError: The package is missing or its files are not those that were reviewed.
    """
    spec = importlib.util.find_spec(MATHJAX_PACKAGE)
    if spec is None or spec.origin is None:
        raise ExtensionError(f"{MATHJAX_PACKAGE} is not installed: pip install -c constraints.txt -e '.[book]'")
    source = Path(spec.origin).parent / "static" / "mathjax"
    found = tree_sha256(source)
    if found != MATHJAX_SHA256:
        raise ExtensionError(f"{MATHJAX_PACKAGE}: its files hash to {found}, expected {MATHJAX_SHA256}; not used")
    if target.is_dir() and tree_sha256(target) == MATHJAX_SHA256:
        return
    shutil.rmtree(target, ignore_errors=True)
    for path in mathjax_files(source):
        copied = target / path.relative_to(source)
        copied.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copied)


def mathjax_files(folder: Path) -> list[Path]:
    """The files of `MATHJAX_PARTS` in a folder, sorted."""
    parts = [folder / part for part in MATHJAX_PARTS]
    return sorted(path for part in parts for path in ([part] if part.is_file() else part.rglob("*")) if path.is_file())


def tree_sha256(folder: Path) -> str:
    """One hash over the names and contents of a folder's MathJax files."""
    total = hashlib.sha256()
    for path in mathjax_files(folder):
        total.update(path.relative_to(folder).as_posix().encode() + b"\0")
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def write_charts(folder: Path) -> None:
    """Write Vega's bundle (once a version), and the own scripts and styles of figures and toys."""
    import altair
    import vl_convert

    from gendyn_lite.charts import toy
    from gendyn_lite.charts.figure import script, style, vega

    bundle = folder / CHART_FILES[0]
    versions = f"// Vega-Lite {altair.VEGALITE_VERSION}, vl-convert {vl_convert.__version__}\n"
    if not (bundle.is_file() and bundle.read_text(encoding="utf-8").startswith(versions)):
        _write(bundle, versions + vega())
    _write(folder / CHART_FILES[1], script())
    _write(folder / CHART_FILES[2], style())
    _write(folder / TOY_FILES[0], toy.script())
    _write(folder / TOY_FILES[1], toy.style())


def _write(path: Path, text: str) -> None:
    """Write aside, then rename; leave an equal file alone."""
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return
    aside = path.with_suffix(".partial")
    aside.write_text(text, encoding="utf-8")
    aside.replace(path)


def self_contained(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Give a page the scripts of the charts and toys that it has, and take away what would call another host."""
    body = context.get("body", "")
    app.add_css_file(BOOK_STYLE)
    if CHART_MARK in body:
        app.add_js_file(CHART_FILES[0], loading_method="defer")
        app.add_js_file(CHART_FILES[1], loading_method="defer")
        app.add_css_file(CHART_FILES[2])
    if TOY_MARK in body:
        app.add_js_file(TOY_FILES[0], loading_method="defer")
        app.add_css_file(TOY_FILES[1])
    unwanted = ("thebe",) if 'class="math' in body else ("thebe", "mathjax")
    scripts = context.get("script_files", [])
    context["script_files"] = [script for script in scripts if not _names(script, unwanted)]
    for pattern in (_LIVE, _THEBE, _KERNEL_NAME):
        body = pattern.sub("", body)
    context["body"] = _TABLE.sub(_with_rows, body)


def _with_rows(table: re.Match[str]) -> str:
    """A table that says its number of rows, from which its height is guessed before it is laid out."""
    return f'<div class="gendyn-wide" style="--rows: {table[1].count("<tr")}"{table[1]}'


def mend(app: Sphinx, exception: Exception | None) -> None:
    """Mend what the theme wrote around the text of every page, and drop what no page loads."""
    if exception is not None or app.builder.format != "html":
        return
    pages = (path for path in Path(app.outdir).rglob("*.html") if "_static" not in path.parts)
    for path in pages:
        text = path.read_text(encoding="utf-8")
        for pattern, right in _MENDED:
            text = pattern.sub(right, text)
        _write(path, text)
    theme = Path(app.outdir, "_static", _THEME)
    _write(theme, _MEASURES.sub('[".none"]', theme.read_text(encoding="utf-8")))
    _write(Path(app.outdir).parent / STAMP, made_of(app))
    for pattern in _UNUSED:
        for path in Path(app.outdir, "_static").glob(pattern):
            path.unlink()


def _names(script: Any, words: tuple[str, ...]) -> bool:
    """Whether a script's file name or text has one of the words (thebe would fetch itself and a kernel)."""
    text = str(getattr(script, "filename", script) or "") + str(getattr(script, "attributes", {}).get("body", ""))
    return any(word in text.lower() for word in words)
