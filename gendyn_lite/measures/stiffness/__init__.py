"""Stiffness: whether a step that lowers one example's loss lowers another's (Fort et al., 2019; Walker).

`gradient_gram` is the one costly step; everything else is computed from its matrix.
"""

from gendyn_lite.measures._per_example_layers import layer_names
from gendyn_lite.measures.stiffness.averages import Estimate, average, by_class, by_pair
from gendyn_lite.measures.stiffness.distance import Bin, by_distance, critical_length, pair_distances
from gendyn_lite.measures.stiffness.gram import gradient_gram
from gendyn_lite.measures.stiffness.matrices import cosine, sign, zero_gradients
from gendyn_lite.measures.stiffness.norms import squared_norms
from gendyn_lite.measures.stiffness.plane import NeighbourhoodMap, neighbourhood_map
from gendyn_lite.measures.stiffness.probe import Probe, layer_probe, stiffness_probe
from gendyn_lite.measures.stiffness.steps import LossChange, loss_change

__all__ = [
    "Bin",
    "Estimate",
    "LossChange",
    "NeighbourhoodMap",
    "Probe",
    "average",
    "by_class",
    "by_distance",
    "by_pair",
    "cosine",
    "critical_length",
    "gradient_gram",
    "layer_names",
    "layer_probe",
    "loss_change",
    "neighbourhood_map",
    "pair_distances",
    "sign",
    "squared_norms",
    "stiffness_probe",
    "zero_gradients",
]
