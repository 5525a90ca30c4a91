"""Capacity: what a class of functions can fit, whatever the labels (Zhang et al. 2017).

It has networks that fit any labels, exact kernel and linear models, and the complexity measures of learning theory.
"""

from gendyn_lite.measures.capacity.feature_regression import FeatureRegression, feature_regression
from gendyn_lite.measures.capacity.features import ConvFeatures, gabor_bank, gabor_features, random_conv_features
from gendyn_lite.measures.capacity.given import duplicates
from gendyn_lite.measures.capacity.gram import RidgeSolution, SingularGramError, ridge_path
from gendyn_lite.measures.capacity.kernels import KernelFactor, KernelRegression, gaussian_kernel, kernel_regression
from gendyn_lite.measures.capacity.linear import Descent, gradient_descent_from_zero, minimum_norm_solution
from gendyn_lite.measures.capacity.memorize import MemorizingNetwork, hinge_sum, memorizing_network
from gendyn_lite.measures.capacity.rademacher import (
    Fit,
    Rademacher,
    empirical_rademacher,
    rademacher_gap_bound,
    random_signs,
    vc_dimension_bound,
    vc_gap_bound,
)
from gendyn_lite.measures.capacity.stability import Stability, label_account, replace_one_stability, stability_gap_bound
from gendyn_lite.measures.capacity.widths import WidthChoice, choose_width, median_distance
