"""Capacity: what a class of functions could fit, whatever the labels (Zhang et al., ICLR 2017).

Networks that fit any labels, exact kernel and linear models, and the complexity measures of learning theory.
"""

from gendyn_lite.measures._memory import available_memory
from gendyn_lite.measures.capacity._points import duplicates
from gendyn_lite.measures.capacity.account import label_account
from gendyn_lite.measures.capacity.cholesky import SingularGramError
from gendyn_lite.measures.capacity.feature_regression import FeatureMap, FeatureRegression, feature_regression
from gendyn_lite.measures.capacity.gabor import gabor_bank, gabor_features
from gendyn_lite.measures.capacity.kernels import (
    KernelFactor,
    KernelRegression,
    gaussian_kernel,
    gram_bytes,
    kernel_regression,
)
from gendyn_lite.measures.capacity.linear import Descent, gradient_descent_from_zero, minimum_norm_solution
from gendyn_lite.measures.capacity.memorize import MemorizingNetwork, hinge_sum, memorizing_network
from gendyn_lite.measures.capacity.rademacher import (
    Fit,
    Rademacher,
    empirical_rademacher,
    linear_rademacher,
    linear_rademacher_bounds,
    rademacher_gap_bound,
    random_signs,
)
from gendyn_lite.measures.capacity.random_features import ConvFeatures, Pixels, random_conv_features
from gendyn_lite.measures.capacity.stability import (
    Stability,
    kernel_ridge_stability,
    replace_one_stability,
    stability_gap_bound,
)
from gendyn_lite.measures.capacity.vc import vc_dimension_bound, vc_gap_bound
from gendyn_lite.measures.capacity.width import WidthChoice, choose_width, median_distance

__all__ = [
    # features and linear models
    "ConvFeatures",
    "Descent",
    "FeatureMap",
    "FeatureRegression",
    # complexity measures
    "Fit",
    # kernels
    "KernelFactor",
    "KernelRegression",
    # finite-sample expressivity
    "MemorizingNetwork",
    "Pixels",
    "Rademacher",
    "SingularGramError",
    "Stability",
    "WidthChoice",
    "available_memory",
    "choose_width",
    "duplicates",
    "empirical_rademacher",
    "feature_regression",
    "gabor_bank",
    "gabor_features",
    "gaussian_kernel",
    "gradient_descent_from_zero",
    "gram_bytes",
    "hinge_sum",
    "kernel_regression",
    "kernel_ridge_stability",
    "label_account",
    "linear_rademacher",
    "linear_rademacher_bounds",
    "median_distance",
    "memorizing_network",
    "minimum_norm_solution",
    "rademacher_gap_bound",
    "random_conv_features",
    "random_signs",
    "replace_one_stability",
    "stability_gap_bound",
    "vc_dimension_bound",
    "vc_gap_bound",
]  # fmt: skip
