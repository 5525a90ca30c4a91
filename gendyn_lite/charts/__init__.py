"""Tidy tables to charts: one module an experiment, one theme, one renderer. No torch.

Every chart has a title and a description; `show` displays it as a figure with its data as a table,
`show_switch` two of them in one figure, of the published and of the page's own runs.
"""

from __future__ import annotations

from gendyn_lite.charts.figure import DASHES, PALETTE, SHAPES, captioned, enable, show, show_switch

__all__ = ["DASHES", "PALETTE", "SHAPES", "captioned", "enable", "show", "show_switch"]
