"""Committed notebooks: their tidy outputs, checks of these, and the project's address in their set-up cells.

The address is in `_config.yml` and in the set-up cell of every chapter, which installs the package from there if the
notebook is opened alone, as on Colab. Until it is set, that cell only says that the package has to be installed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import nbformat

from gendyn_lite.errors import UserError
from gendyn_lite.notebooks.chapters import book_folder, chapter_path, chapters, notebook_text, read_notebook
from gendyn_lite.results.files import write_text
from gendyn_lite.results.published import published, published_experiments

NOT_COMPARED = "nbval-ignore-output"  # tag of a cell whose outputs nbval does not compare; they are sealed instead
SEAL = "outputs_sha256"  # metadata of such a cell: the hash of its outputs
LIVE_ONLY = "live-only"  # tag of a cell whose output needs a kernel (ipywidgets); pages show `NOTE` instead
WIDGET = "application/vnd.jupyter.widget-view+json"
NOTE = "This explorer needs a live kernel: open the chapter in Jupyter or Colab and run this cell."
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def tidy(notebook: Any) -> Any:
    """Remove from an executed notebook what changes with every execution and what does not work without a kernel.

    Timestamps, papermill's records, widget state and interpreter versions are removed. The output of a cell tagged
    ``live-only`` is replaced by a note; outputs of other cells that are widgets (progress bars) are removed. Outputs
    that nbval does not compare, because they depend on the processor like the numbers of trained networks, are sealed
    by a hash, so that edits by hand are noticed.
    """
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        for name in ("papermill", "execution"):
            cell.metadata.pop(name, None)
        if not cell.metadata.get("tags", True):
            del cell.metadata["tags"]
        if cell.cell_type != "code":
            continue
        cell.outputs = [output for output in cell.outputs if WIDGET not in output.get("data", {})]
        if LIVE_ONLY in cell.metadata.get("tags", []):
            note = {"text/html": f'<p class="gendyn-live-only">{NOTE}</p>', "text/plain": NOTE}
            cell.outputs = [nbformat.v4.new_output("display_data", data=note)]
        cell.metadata.pop(SEAL, None)
        if NOT_COMPARED in cell.metadata.get("tags", []):
            cell.metadata[SEAL] = seal(cell.outputs)
    return notebook


def seal(outputs: Any) -> str:
    """The hash of a cell's outputs.

    >>> seal([]) == seal([{"output_type": "stream", "name": "stdout", "text": "0.98"}])
    False
    """
    return hashlib.sha256(json.dumps(outputs, sort_keys=True).encode()).hexdigest()[:16]


def check_executed(path: Path) -> None:
    """Check that a notebook was executed completely and in order, and can be committed.

    nbval alone is not enough: it compares nothing in cells without an execution count, so a notebook without outputs
    passes it.

    Args:
        path: The notebook.

    Raises:
        UserError: It is not a valid notebook; a cell was not executed in order, failed, wrote to stderr, or has a
            widget or outputs other than those that were sealed; or metadata of papermill or widgets are left.

    >>> check_executed(chapter_path("00_data"))
    """
    check_notebook(read_notebook(path), name=path.name)


def check_notebook(notebook: Any, *, name: str) -> None:
    """Check a notebook that was read already, as `check_executed` does; errors start with `name`."""
    problem = next(_problems(notebook), None)
    if problem:
        raise UserError(f"{name}: {problem}; execute it again with `make refresh`")


def _problems(notebook: Any) -> Iterator[str]:
    """Iterate over the problems of a notebook, in words."""
    yield from (f"metadata {name!r} is left in it" for name in ("widgets", "papermill") if name in notebook.metadata)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if not code:
        yield "it has no code cells"
    for number, cell in enumerate(code, start=1):
        first = next(iter(cell.source.strip().splitlines()), "")
        where = f"code cell {number} ({first[:60]!r})"
        if not first:
            yield f"code cell {number} is empty"
        if cell.execution_count != number:
            yield f"{where} has execution count {cell.execution_count}, expected {number}: not executed in order"
        yield from (f"{where} {fault}" for fault in _faults(cell))


def _faults(cell: Any) -> Iterator[str]:
    """Iterate over the problems of one cell's outputs, in words."""
    tags = cell.metadata.get("tags", [])
    if LIVE_ONLY in tags and NOT_COMPARED not in tags:
        yield f"is tagged {LIVE_ONLY!r} and needs the tag {NOT_COMPARED!r} too"
    for output in cell.outputs:
        if output.output_type == "error" and "raises-exception" not in tags:
            yield f"failed with {output.ename}: {output.evalue}"
        if output.output_type == "stream" and output.name == "stderr":
            yield f"wrote to stderr: {output.text.strip()[:80]!r}"
        if WIDGET in output.get("data", {}):
            yield f"holds a widget, which does not work without a kernel: tag it {LIVE_ONLY!r}"
    if NOT_COMPARED in tags and cell.metadata.get(SEAL) != seal(cell.outputs):
        yield "has outputs other than those that were sealed: they were edited, or not executed by `gendyn refresh`"


# A line of `gendyn_lite.results.provenance_line` in a caption: the profile, and the first digits of each group_id.
_CAPTION = re.compile(r"profile ([a-z]+(?: and [a-z]+)*)(: method demo)?[^;]*; [^;]*; groups ([^.]*)")
_GROUP = re.compile(r"\b[0-9a-f]{8}\b")


def verify_figures(notebooks: Iterable[Path]) -> int:
    """Check that the groups of runs named in the captions of published figures exist in the published tables.

    Args:
        notebooks: Executed notebooks.

    Returns:
        The number of captions that were checked. Those of smoke runs, which the page itself trains, are skipped.

    Raises:
        UserError: A caption names a group that is in no table.

    >>> verify_figures([chapter_path("03_fisher_mask")]) > 3
    True
    """
    known = {group[:8] for name in published_experiments() for group in published(name)["group_id"]}
    count = 0
    for path in notebooks:
        outputs = [output for cell in read_notebook(path).cells for output in cell.get("outputs", [])]
        html = "\n".join(str(output.get("data", {}).get("text/html", "")) for output in outputs)
        for groups in (groups for _, demo, groups in _CAPTION.findall(html) if not demo):
            unknown = sorted(set(_GROUP.findall(groups)) - known)
            if unknown:
                told = f"{path.name}: a figure names group {unknown[0]}, which no published table has"
                raise UserError(f"{told}: publish its runs, or execute the chapter again (gendyn refresh)")
            count += 1
    return count


SETUP = '''repository = "{url}"  # set by `gendyn configure --repository URL`
try:
    import gendyn_lite  # noqa: F401
except ModuleNotFoundError:
    if not repository:
        raise SystemExit("install gendyn_lite first: see the project's README") from None
    %pip install --quiet "git+{{repository}}"'''
_NAME = r"(?!\.+(?:/|\Z))[\w.\-~]+"  # a part of a path, other than "." and ".."
_ADDRESS = re.compile(rf"https://\w[\w.\-]*(:\d+)?(/{_NAME}){{2,}}", re.ASCII)  # host, owner, name
_CONFIG = re.compile(r"^(# )?repository: \{url: .*\n(?:# )?launch_buttons: .*$", re.MULTILINE)
_ON = (
    'repository: {{url: "{url}", path_to_book: "", branch: student}}\n'
    'launch_buttons: {{colab_url: "https://colab.research.google.com"}}'
)
_OFF = re.sub("^", "# ", _ON.format(url="https://github.com/OWNER/gendyn_lite"), flags=re.MULTILINE)


def configure(url: str, *, config: Path | None = None, notebooks: Sequence[Path] | None = None) -> list[Path]:
    """Write the project's address into `_config.yml` and into the set-up cell of every chapter.

    Args:
        url: The address, such as ``"https://github.com/OWNER/REPO"``; empty to unset it, which removes launch buttons.
        config: The configuration file of the book (default: that of this checkout).
        notebooks: The chapters (default: all of this checkout).

    Returns:
        The files that were changed.

    Raises:
        UserError: It is not an https address of a repository, or a file has no line for it. Nothing is written then.
    """
    url = _checked(url)
    config = config or book_folder().parent / "_config.yml"
    paths = [chapter_path(name) for name in chapters()] if notebooks is None else list(notebooks)
    text = config.read_text(encoding="utf-8")
    if not _CONFIG.search(text):
        raise UserError(f"{config} has no lines 'repository' and 'launch_buttons' to write to: restore them")
    written = {config: _CONFIG.sub(lambda _: _ON.format(url=url) if url else _OFF, text)}
    written |= {path: with_address(path, url) for path in paths}
    changed = [path for path, new in written.items() if new != path.read_text(encoding="utf-8")]
    for path in changed:
        write_text(path, written[path])
    return changed


def _checked(url: str) -> str:
    """The address without a trailing ``/`` or ``.git``; an error if it is not one."""
    url = url.strip().removesuffix("/").removesuffix(".git")
    if "@" in url:  # the message must not show it, since it may contain a password
        raise UserError("the repository's address holds a user name or a password (before '@'): leave them out")
    if url and not _ADDRESS.fullmatch(url):
        raise UserError(f"repository {url!r} is not an address such as https://github.com/OWNER/REPO")
    return url


def with_address(path: Path, url: str) -> str:
    """The text of a chapter's file with the address in its set-up cell."""
    notebook = read_notebook(path)
    first = next((cell for cell in notebook.cells if cell.cell_type == "code"), None)
    if first is None or not first.source.startswith("repository = "):
        raise UserError(f"{path.name}: its first code cell has no line 'repository = …': see `SETUP` of {__name__}")
    first.source = SETUP.format(url=url)
    return notebook_text(notebook)
