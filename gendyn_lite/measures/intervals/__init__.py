"""Generalization intervals: how far from a point, in a direction, a network keeps its class (Salman et al. 2019)."""

from gendyn_lite.measures.intervals.directions import (
    adversarial_directions,
    between_means,
    components,
    midlines,
    pair_distance,
    pair_lines,
    random_directions,
    same_class_tuples,
)
from gendyn_lite.measures.intervals.interval import generalization_interval
from gendyn_lite.measures.intervals.maxout import Maxout
from gendyn_lite.measures.intervals.norms import WeightNorms, infinity_norm, linear_maps, weight_norms
from gendyn_lite.measures.intervals.pieces import Line, pieces
from gendyn_lite.measures.intervals.result import Intervals

__all__ = [
    "Intervals",
    "Line",
    "Maxout",
    "WeightNorms",
    "adversarial_directions",
    "between_means",
    "components",
    "generalization_interval",
    "infinity_norm",
    "linear_maps",
    "midlines",
    "pair_distance",
    "pair_lines",
    "pieces",
    "random_directions",
    "same_class_tuples",
    "weight_norms",
]
