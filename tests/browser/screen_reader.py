"""What axe, which knows what a screen reader needs, finds amiss in a page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from axe_playwright_python.base import AXE_SCRIPT
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

# Its rule of contrast, which takes two thirds of the time, is asked once for each look of words.
AXE = Axe(f"{AXE_SCRIPT}\naxe.configure({{ rules: [{{ id: 'color-contrast', selector: '[data-look]' }}] }});")
# Marks one element for each look that words have: its kind, colour and size, and what is behind it.
LOOKS = """() => {
  const looks = new Set(), worded = (e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
  for (const e of [...document.body.querySelectorAll("*")].filter((e) => e.getClientRects().length && worded(e))) {
    const { color, fontSize, fontWeight } = getComputedStyle(e);
    let look = [e.localName, e.getAttribute("class"), e.disabled, color, fontSize, fontWeight].join();
    for (let up = e; up; up = up.parentElement) {
      const { backgroundColor, backgroundImage, opacity } = getComputedStyle(up);
      look += [backgroundColor, backgroundImage, opacity].join().replace("rgba(0, 0, 0, 0),none,1", "");
    }
    if (!looks.has(look)) e.dataset.look = looks.add(look).size;
  }
}"""
# Rules about colours and places. The others ask of the structure, which a text has at every size and in every scheme.
BY_SIZE = ("color-contrast", "link-in-text-block", "scrollable-region-focusable", "avoid-inline-spacing")
OFF = ("duplicate-id", "label-content-name-mismatch")  # by themselves


def amiss(page: Page, *, without: str = "", only: Sequence[str] = ()) -> list[tuple[str, str]]:
    """The rules that a page breaks, with the first element that does; without what a selector finds, or only some."""
    rules = {name: {"enabled": True} for name in OFF}
    options: dict[str, Any] = {"resultTypes": ["violations"], "rules": rules, "preload": False}
    if only:
        options["runOnly"] = {"type": "rule", "values": list(only)}
    page.evaluate(LOOKS)
    found = AXE.run(page, context={"exclude": [[without]]} if without else None, options=options)
    return [(one["id"], one["nodes"][0]["html"]) for one in found.response["violations"] if one["impact"] != "minor"]
