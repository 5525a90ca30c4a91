"""Chapter 2: the path of an image through a ReLU network, and the functions that paths define."""
