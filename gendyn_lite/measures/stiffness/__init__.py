"""Stiffness: whether a step that lowers one example's loss lowers another's (Fort et al., 2019; Walker).

Only `gradient_gram` is costly; everything else is computed from its matrix.
"""

from gendyn_lite.measures.per_example.layers import layer_names
from gendyn_lite.measures.stiffness.gram import cosine, gradient_gram, sign, zero_gradients
from gendyn_lite.measures.stiffness.layer_gram import squared_norms
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
    LossChange,
    NeighbourhoodMap,
    Probe,
    layer_probe,
    loss_change,
    neighbourhood_map,
    stiffness_probe,
)
