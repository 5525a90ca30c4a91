"""Chapter 6, without training: what a network could fit, and what kernels and linear models do."""
