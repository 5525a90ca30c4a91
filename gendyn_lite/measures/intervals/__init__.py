"""Generalization intervals: how far from a point, along a direction, a network keeps its class (Salman et al. 2019)."""

from gendyn_lite.measures.intervals.bounds import WeightNorms, infinity_norm, linear_maps, weight_norms
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
from gendyn_lite.measures.intervals.interval import Intervals, Line, generalization_interval, pieces
