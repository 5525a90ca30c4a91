"""Chapter 3: gradients masked by Fisher information."""
