"""Stiffness: whether a step that lowers one example's loss lowers another's (Fort et al., 2019; Walker).

`gradient_gram` is the one costly step; everything else is computed from its matrix.
"""

from gendyn_lite.measures.per_example.layers import layer_names
from gendyn_lite.measures.stiffness.gram import gradient_gram
from gendyn_lite.measures.stiffness.matrices import LossChange, cosine, loss_change, sign, squared_norms, zero_gradients
from gendyn_lite.measures.stiffness.pairs import (
    Bin,
    Estimate,
    average,
    by_class,
    by_distance,
    by_pair,
    critical_length,
    pair_distances,
)
from gendyn_lite.measures.stiffness.probe import (
    NeighbourhoodMap,
    Probe,
    layer_probe,
    neighbourhood_map,
    stiffness_probe,
)
