"""Chapter 5: how far along a line a network keeps its answer."""
