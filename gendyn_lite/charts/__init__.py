"""Charts from tidy tables, with one theme and one renderer. No torch.

Every chart has a title and a description. `show` displays it as a figure with its data as a table; `show_runs` displays
a chart of the published runs and, behind a switch, of the page's own runs.
"""

from __future__ import annotations

from gendyn_lite.charts.figure import DASHES, PALETTE, SHAPES, captioned, enable, show, show_switch
from gendyn_lite.charts.parts import show_runs

__all__ = ["DASHES", "PALETTE", "SHAPES", "captioned", "enable", "show", "show_runs", "show_switch"]
