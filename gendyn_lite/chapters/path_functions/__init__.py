"""Chapter 2: the ReLU paths that an image takes, and the functions they make."""
