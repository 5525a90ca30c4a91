"""Chapter 5: how far along a line a network keeps predicting the same class."""
