"""Chapter 6, capacity without training: what a network could fit, and how kernels and linear models generalize."""
