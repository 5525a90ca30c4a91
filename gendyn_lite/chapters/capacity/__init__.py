"""Chapter 1, without training: what a network could fit, and what kernels and linear models do."""
