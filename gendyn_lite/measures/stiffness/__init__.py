"""Stiffness: whether a step that lowers one example's loss lowers another's (Fort et al., 2019)."""

from gendyn_lite.measures._per_example_layers import layer_names
from gendyn_lite.measures.stiffness.gram import gradient_gram

__all__ = ["gradient_gram", "layer_names"]
