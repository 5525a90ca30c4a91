"""ReLU paths: which units of a network are on for which image, and how that changes during training.

The definitions follow "Image functions in neural networks: a perspective on generalization", Sec. 3-8.
"""

from gendyn_lite.measures.relu_paths.gram import int8_is_fast, path_gram
from gendyn_lite.measures.relu_paths.image_functions import ImageFunctions, image_functions
from gendyn_lite.measures.relu_paths.isolation import (
    alone,
    function_correlation,
    isolated_network,
    isolated_outputs,
    isolation_probe,
    pairwise_correlation,
)
from gendyn_lite.measures.relu_paths.over_time import QUANTILES, PathRecorder, PathRecording
from gendyn_lite.measures.relu_paths.packed import PackedPaths
from gendyn_lite.measures.relu_paths.projection import forward_with_paths, loss_along
from gendyn_lite.measures.relu_paths.record import gate_layers, record_activations, record_packed, record_paths
from gendyn_lite.measures.relu_paths.similarity import (
    Crossed,
    cross_activation_similarity,
    cross_activations,
    cross_path_similarity,
    cross_paths,
    overlap_across,
    self_activation_similarity,
    self_similarity,
)
from gendyn_lite.measures.relu_paths.summaries import (
    Pairs,
    RanksOverTime,
    early_to_mid_ratio,
    neighbour_ranks,
    overlap_and_distance,
    ranks_over_time,
)
from gendyn_lite.measures.relu_paths.weight_history import WeightHistory
