"""Explorers for a live kernel, one a chapter; each has a static twin in the chapter, over the same run folders."""

from gendyn_lite.widgets.fisher import InfluenceExplorer
from gendyn_lite.widgets.intervals import IntervalExplorer
from gendyn_lite.widgets.paths import PathExplorer
from gendyn_lite.widgets.random_labels import RandomLabelsExplorer
from gendyn_lite.widgets.stiffness import StiffnessExplorer

__all__ = ["InfluenceExplorer", "IntervalExplorer", "PathExplorer", "RandomLabelsExplorer", "StiffnessExplorer"]
